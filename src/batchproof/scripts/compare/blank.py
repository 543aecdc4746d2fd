"""Where a script's arguments say the batch size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from batchproof.errors import BatchproofError

#: What the arguments say in place of a batch size.
BLANK = "{batch_size}"
_ABBREVIATIONS = ("b", "bs", "batch", "size")


def refuse_misspelt(arguments: Sequence[str]) -> None:
    """Refuse what is nearly a blank: it would go to the script as it is, and every run would have the same batch size.

    >>> refuse_misspelt(["--bs", "{batch_size}", "--name", "{epoch}"])
    >>> refuse_misspelt(["--bs", "{batchsize}"])
    Traceback (most recent call last):
    batchproof.errors.BatchproofError: {batchsize} is not filled in; did you mean {batch_size}?

    Raises:
        BatchproofError: which one it is.
    """
    has_blank = any(BLANK in argument for argument in arguments)
    for found in re.findall(r"\{[\w -]+\}", " ".join(arguments)):
        bare = re.sub(r"[^a-z]", "", found.lower())
        is_near = bool(get_close_matches(bare, ["batchsize"], cutoff=0.8))
        is_short = bare in _ABBREVIATIONS and not has_blank
        if found != BLANK and (is_near or is_short):
            raise BatchproofError(f"{found} is not filled in; did you mean {BLANK}?")
