"""The torch that is there: whether it is new enough."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from importlib.util import find_spec

from batchproof.errors import TorchMissing

#: The oldest release of torch on which the tests pass; CONTRIBUTING.md says how it is tried.
OLDEST = (2, 6)


def require(what: str) -> None:
    """Raise `TorchMissing` unless this Python has a torch that is new enough.

    Torch itself is not imported: ``compare`` only starts the processes that do so.

    Args:
        what: What needs it, for the message: ``"batchproof.exact"``, ``"batchproof run"``.
    """
    need = f"{what} needs torch {OLDEST[0]}.{OLDEST[1]} or later"
    version = installed()
    if version is None:
        raise TorchMissing(
            f"{need}, and this Python has none ({sys.executable})\n"
            "Install it with: pip install torch    (other builds: https://pytorch.org/get-started/locally)",
            name="torch",
        )
    if release(version) < OLDEST:
        raise TorchMissing(f"{need}, and this is {version} ({sys.executable})", name="torch")


def installed() -> str | None:
    """The version of the torch that an import would find, or None where there is none."""
    if find_spec("torch") is None:
        return None
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:  # built in its source tree, and found there by PYTHONPATH
        import torch

        return str(torch.__version__)


def release(version: str) -> tuple[int, ...]:
    """Major and minor number of a version, whatever follows them: ``2.6.0a0+df5bbc09d1.nv24.12`` is (2, 6)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
