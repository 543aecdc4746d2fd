"""The Trainer collects garbage at the start of every run, which takes longer than the run: in all that is loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _little_to_look_through() -> Iterator[None]:
    """What was loaded before a test is no garbage of that test."""
    gc.freeze()
    yield
    gc.unfreeze()
