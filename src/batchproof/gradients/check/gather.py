"""Where the script itself runs on several ranks: what each of them recorded, if all of them are checking."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

import torch.distributed as dist

from batchproof.gradients.check.record import Window, together

#: Ranks that do not come to a check within this time are taken to be doing something else.
WAIT = timedelta(seconds=20)
POLL = 0.01
#: The number of the next check.
_turns = itertools.count()


def all_are_here() -> bool:
    """Whether every rank of the default group has begun the same check; none is left waiting where one has not."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return False
    store = dist.distributed_c10d._get_default_store()
    key = _decision(next(_turns))
    while store.check([key]) and store.get(key) == b"alone":  # a check of one rank, which this one did not make
        key = _decision(next(_turns))
    if store.add(f"{key}/arrived", 1) == dist.get_world_size():
        return bool(store.compare_set(key, "", "together") == b"together")
    end = time.monotonic() + WAIT.total_seconds()
    while time.monotonic() < end:
        if store.check([key]):
            return bool(store.get(key) == b"together")
        time.sleep(POLL)
    return bool(store.compare_set(key, "", "alone") == b"together")


def _decision(turn: int) -> str:
    return f"batchproof/check/{turn}"


def gathered(windows: Sequence[Window]) -> list[Window]:
    """The windows of all ranks together, the same on each."""
    everything: list[list[Window]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everything, list(windows))
    if any(len(other) != len(windows) for other in everything):
        return list(windows)
    return together(everything)


def gathered_counts(counts: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """By name, what the passes of all ranks count."""
    everything: list[Mapping[str, Sequence[float]]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(everything, dict(counts))
    names = [name for name in counts if all(name in other for other in everything)]
    return {name: [number for other in everything for number in other[name]] for name in names}
