"""Every error that batchproof raises on purpose: what was wrong, where, and what to do."""

from __future__ import annotations


class BatchproofError(Exception):
    """Something that batchproof will not do, with the reason.

    >>> import batchproof
    >>> batchproof.exact(3)
    Traceback (most recent call last):
    batchproof.errors.BatchproofError: exact takes a function or a module, not int

    Errors that the user's own function raises are never wrapped in this: they pass through untouched.
    """


class NotConstantSize(BatchproofError):
    """``state="constant"`` was asked for, and the function has no exact state of constant size.

    >>> import torch, batchproof
    >>> batchproof.exact(torch.median, state="constant").update(torch.arange(100.0))
    Traceback (most recent call last):
    batchproof.errors.NotConstantSize: no state of constant size: median needs all samples together...
    """


class TorchMissing(BatchproofError, ImportError):
    """torch is used from the user's own environment, and none is there, or one that is too old."""
