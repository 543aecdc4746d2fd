"""Ready-made gradient checks for whole trainers, one module each; a trainer's package is imported when it is used.

``loop`` checks a plain loop, ``hugging_face`` a ``transformers.Trainer``, ``trl`` a trainer of TRL, ``accelerate`` a
loop written with ``accelerate``, and ``lightning`` a ``LightningModule``.  Each has one function, ``check``, that gives
back a `batchproof.GradientCheck`.
"""

from batchproof.ground.torch_versions import require

require("batchproof.trainers")
