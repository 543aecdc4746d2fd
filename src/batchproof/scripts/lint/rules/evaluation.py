"""BP3: evaluations that do not score every sample once."""

from __future__ import annotations

from collections.abc import Callable

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rules.rule import Rule, Verdict
from batchproof.scripts.source import Doubt


def says(message: str, remedy: str) -> Callable[[Doubt], Verdict]:
    """The verdict that says what was seen, in the place of a ``{}``, and what it does."""

    def verdict(doubt: Doubt) -> Verdict:
        return Verdict(doubt.node, message.format(doubt.why), remedy)

    return verdict


BP301 = Rule(
    "BP301",
    "only-last-batch",
    Severity.WARNING,
    "what is reported after the loop is the last batch's value",
    """\
Finds a loss or metric that is assigned in the loop over batches and printed, returned or logged after it, without
anything that adds the batches up.

## Why it is bad

The number is that of one batch, the last one, which may be short. It is noisy, and the smaller the batch the noisier.

## How large it is

An accuracy of 90 % scored on 16 samples has a standard error of 7.5 points, on 128 samples one of 2.7. If one sample is
left over for the last batch, it reads 0 % or 100 %.

## Example

```py
import torch.nn.functional as F


def evaluate(model, loader):
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
    print("validation loss", loss.item())
```

Instead:

```py
import torch.nn.functional as F


def evaluate(model, loader):
    total, n = 0.0, 0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item() * len(y)
        n += len(y)
    print("validation loss", total / n)
```

## Fix

None: the accumulator is for you to write.
""",
    topic="only the last batch",
    doubt=says(
        "{}, and the other batches are lost",
        "add up over the batches, weighted by their sizes, and report the average",
    ),
)

BP302 = Rule(
    "BP302",
    "evaluation-drops-tail",
    Severity.WARNING,
    "an evaluation loader with drop_last=True",
    """\
Finds a validation or test loader that is built with `drop_last=True`.

## Why it is bad

Samples that do not fill a batch are never scored. How many these are depends on the batch size, and without shuffling
they are always the last ones of the file, which are often of one class.

## How large it is

Up to one batch less one: of 1,000 samples, batches of 16 leave out 8 and batches of 128 leave out 104, a tenth of the
test set. A test set that is smaller than one batch is not scored at all.

## Example

```py
from torch.utils.data import DataLoader

val_loader = DataLoader(val_set, batch_size=128, drop_last=True)


def evaluate(model):
    correct, n = 0, 0
    for x, y in val_loader:
        correct += (model(x).argmax(1) == y).sum().item()
        n += len(y)
    return correct / n
```

Instead:

```py
from torch.utils.data import DataLoader

val_loader = DataLoader(val_set, batch_size=128)


def evaluate(model):
    correct, n = 0, 0
    for x, y in val_loader:
        correct += (model(x).argmax(1) == y).sum().item()
        n += len(y)
    return correct / n
```

## Fix

None: if the model needs full batches (BatchNorm in training mode, a fixed shape), that comes first.
""",
    topic="evaluation drops its tail",
    doubt=says(
        "{}: samples that do not fill a batch are never scored",
        "drop_last=False, and weight each batch by its size",
    ),
)

BP303 = Rule(
    "BP303",
    "padded-sampler",
    Severity.WARNING,
    "a DistributedSampler in evaluation, which repeats samples to make the ranks even",
    """\
Finds an evaluation loader whose sampler is a `DistributedSampler` that pads.

## Why it is bad

To give every process the same number of samples, the sampler repeats some. They are scored twice. How many there are
depends on the number of processes.

## How large it is

At most the number of processes less one: of 1,000 samples on 7 processes one is scored twice, of 100 samples on 8
processes four are. It matters for small test sets, and wherever results are compared to the last digit.

## Example

```py
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

val_sampler = DistributedSampler(val_set, shuffle=False)
val_loader = DataLoader(val_set, batch_size=64, sampler=val_sampler)


def evaluate(model):
    correct, n = 0, 0
    for x, y in val_loader:
        correct += (model(x).argmax(1) == y).sum().item()
        n += len(y)
    return correct / n
```

Instead, let each process take its share of the samples, without padding:

```py
from torch.utils.data import DataLoader, Subset

val_part = Subset(val_set, range(rank, len(val_set), world_size))
val_loader = DataLoader(val_part, batch_size=64)


def evaluate(model):
    correct, n = 0, 0
    for x, y in val_loader:
        correct += (model(x).argmax(1) == y).sum().item()
        n += len(y)
    return correct / n
```

## Fix

None. `batchproof.exact(...).sync()` merges what ranks of uneven size have seen.
""",
    topic="padded sampler",
    doubt=says(
        "{}, and those that are repeated are scored twice",
        "evaluate on a Subset of every world_size-th sample, or drop the repeated samples after gathering",
    ),
)

RULES = (BP301, BP302, BP303)
