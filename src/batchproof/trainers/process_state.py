"""What all accelerators of a process share: a check has its own for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_state(mixed_precision: str | None = None) -> Iterator[None]:
    """Put back the device, the precision and the accumulation that all accelerators of the process share.

    With ``mixed_precision`` this is the precision until then: an accelerator that was made later has settled another.
    """
    from accelerate.state import AcceleratorState, GradientState, PartialState

    tables = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    kept = [{key: dict(value) if type(value) is dict else value for key, value in table.items()} for table in tables]
    settled = AcceleratorState._shared_state
    if mixed_precision is not None and settled:
        settled["_mixed_precision"] = mixed_precision
    try:
        yield
    finally:
        for table, before in zip(tables, kept, strict=True):
            table.clear()
            table.update(before)
