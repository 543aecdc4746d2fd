"""The script's loaders: counted, and where a run was asked to, with another batch size, longer, or with their tail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

Undo = Callable[[], None]


def replaced(owner: Any, name: str, new: Any) -> Undo:
    """Put a function in the place of another one of torch's; what puts that back."""
    own = getattr(owner, name)
    new.__wrapped__ = own
    setattr(owner, name, new)
    return lambda: setattr(owner, name, own)


@dataclass
class Loaders:
    """What loaders the script builds.

    Attributes:
        batch_size: what all of them get; None leaves them as they are.
        built: how many were built.
        notes: those whose batch size could not be set, and why.
    """

    batch_size: int | None = None
    built: int = 0
    notes: list[str] = field(default_factory=list)

    def watch(self, data: ModuleType) -> Undo:
        """Begin, once ``torch.utils.data.dataloader`` is there."""
        kind = data.DataLoader
        begin = kind.__init__
        watched = self

        def __init__(loader: Any, dataset: Any, batch_size: Any = 1, *args: Any, **kwargs: Any) -> None:
            watched.built += 1
            size = watched.sized(batch_size, kwargs.get("batch_sampler", args[2] if len(args) > 2 else None))
            begin(loader, dataset, size, *args, **kwargs)

        return replaced(kind, "__init__", __init__)

    def sized(self, batch_size: Any, batch_sampler: Any) -> Any:
        """The batch size to build a loader with."""
        if self.batch_size is None:
            return batch_size
        if batch_sampler is not None:
            if isinstance(getattr(batch_sampler, "batch_size", None), int):
                batch_sampler.batch_size = self.batch_size
            else:
                self.note(f"a loader takes its batches from {type(batch_sampler).__name__}: they stay as they are")
            return batch_size
        if batch_size is None:
            self.note("a loader takes whole batches from its dataset: they stay as they are")
            return batch_size
        return self.batch_size

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


class _InPlaceOf:
    """What stands in place of a script's own loader or sampler: all that it does not do itself is that one's."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __len__(self) -> int:
        return len(self._own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


class LongerLoader(_InPlaceOf):
    """A loader that starts anew until as many updates are made as are wanted."""

    def __init__(self, loader: Any, updates: Callable[[], int], wanted: int) -> None:
        super().__init__(loader)
        self._updates = updates
        self._wanted = wanted

    def __iter__(self) -> Iterator[Any]:
        begun = self._updates()
        while True:
            before = self._updates()
            yield from self._own
            if self._updates() - begun >= self._wanted or self._updates() == before:
                return


class NotingSampler(_InPlaceOf):
    """A sampler that notes what it draws."""

    def __init__(self, sampler: Any) -> None:
        super().__init__(sampler)
        self.indices: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        self.indices = []
        for index in self._own:
            self.indices.append(index)
            yield index

    @property
    def twice(self) -> int:
        """Draws of a sample that had been drawn before."""
        try:
            return len(self.indices) - len(set(self.indices))
        except TypeError:
            return 0


def may_draw_twice(loader: Any) -> bool:
    """Whether a loader's sampler may give a sample more than once in a pass."""
    data = sys.modules.get("torch.utils.data")
    batches: Any = getattr(loader, "batch_sampler", None)
    if data is None or not isinstance(loader, data.DataLoader) or type(batches) is not data.BatchSampler:
        return False
    sampler = batches.sampler
    if isinstance(sampler, NotingSampler) or type(sampler) in (data.SequentialSampler, data.SubsetRandomSampler):
        return False
    return not (
        type(sampler) is data.RandomSampler
        and not sampler.replacement
        and sampler.num_samples <= len(sampler.data_source)
    )


def left_out(loader: Any) -> int:
    """How many of a loader's samples are in no batch, because a short last one is dropped."""
    batches: Any = getattr(loader, "batch_sampler", None)
    if getattr(batches, "drop_last", False) is not True or not isinstance(getattr(batches, "batch_size", None), int):
        return 0
    try:
        return len(batches.sampler) % int(batches.batch_size)
    except TypeError:
        return 0


def padding(loader: Any) -> int:
    """How many samples a sampler repeats so that all processes get as many."""
    return len(_copies(loader))


def own_padding(loader: Any) -> int:
    """How many of these are at the end of this process's share."""
    sampler: Any = getattr(loader, "sampler", None)
    return sum(position % sampler.num_replicas == sampler.rank for position in _copies(loader))


def _copies(loader: Any) -> range:
    """The places of the samples that a sampler repeats, among those of all processes."""
    distributed = sys.modules.get("torch.utils.data.distributed")
    sampler = getattr(loader, "sampler", None)
    if distributed is None or not isinstance(sampler, distributed.DistributedSampler) or sampler.drop_last:
        return range(0)
    try:
        return range(len(sampler.dataset), int(sampler.total_size))
    except TypeError:
        return range(0)
