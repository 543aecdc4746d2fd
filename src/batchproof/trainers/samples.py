"""Which samples a check goes through, in which batches, and what each batch holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from batchproof.errors import BatchproofError
from batchproof.gradients.check import GradientRecorder, contents

#: From a batch, what its micro-batch might have to be weighted by.
Count = Callable[[Any], Mapping[str, float]]
Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class EpochSamples:
    """Samples of an epoch, each taken from the data once: full windows from its start, and what its end leaves over.

    ``data`` is the same as a data set of the kind that they were taken from, where that can select some.
    """

    items: list[Any]
    micro_batch: int
    steps: int
    collate: Collate
    count: Count | None = None
    data: Any = None

    def loader(self, batch_size: int, recorder: GradientRecorder) -> DataLoader[Any]:
        """In their order, in batches of this size; what each holds goes to the recorder."""
        return DataLoader(self.items, batch_size=batch_size, collate_fn=self.counting(recorder))  # type: ignore[arg-type]

    def counting(self, recorder: GradientRecorder) -> Collate:
        """The collate function, which tells the recorder what it made."""
        return _Counting(self, recorder)

    @property
    def in_words(self) -> str:
        """``24 samples in micro-batches of 2``."""
        return f"{len(self.items):,} samples in micro-batches of {self.micro_batch:,}"


class _Counting:
    """In place of a collate function, whose attributes a trainer may ask for."""

    def __init__(self, samples: EpochSamples, recorder: GradientRecorder) -> None:
        self._samples, self._recorder = samples, recorder

    def __call__(self, items: list[Any]) -> Any:
        batch, count = self._samples.collate(items), self._samples.count
        self._recorder.count({"samples": len(items), **contents(batch), **(count(batch) if count else {})})
        return batch

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of the object itself, as copies ask
            raise AttributeError(name)
        return getattr(self._samples.collate, name)


def of_loader(loader: object, steps: int, windows: int, count: Count | None) -> EpochSamples:
    """The samples of somebody's DataLoader, whose batch size is that of a micro-batch.

    Raises:
        BatchproofError: It is no DataLoader, or has a batch sampler of its own, or too few samples.
    """
    if not isinstance(loader, DataLoader):
        raise BatchproofError(
            f"the data is a torch DataLoader over micro-batches, not {type(loader).__name__}: "
            "DataLoader(samples, batch_size=8) makes one of a list of samples"
        )
    if loader.batch_size is None:
        raise BatchproofError("the DataLoader has no batch_size: give it one, without a batch sampler of its own")
    return of_dataset(loader.dataset, loader.batch_size, steps, windows, loader.collate_fn, loader.drop_last, count)


def of_dataset(
    dataset: Any, size: int, steps: int, windows: int, collate: Collate, drop_last: bool, count: Count | None
) -> EpochSamples:
    """At most ``windows`` windows of ``steps`` micro-batches: from the start of an epoch, and its last.

    Raises:
        BatchproofError: The numbers are no numbers of batches, or the data does not fill one window.
    """
    for name, number, least in (("accumulation_steps", steps, 2), ("windows", windows, 1)):
        if type(number) is not int or number < least:
            raise BatchproofError(f"{name} is a whole number from {least} on, not {number!r}")
    try:
        items, data = _chosen(dataset, size * steps, windows, size if drop_last else 1)
    except (TypeError, NotImplementedError) as error:
        raise BatchproofError(f"the samples cannot be read one by one: {error}") from None
    if len(items) <= size:
        raise BatchproofError(
            f"{len(items)} samples are one micro-batch of {size}: nothing to accumulate; take a smaller batch size"
        )
    return EpochSamples(items, size, steps, collate, count, data)


def _chosen(dataset: Any, window: int, windows: int, multiple: int) -> tuple[list[Any], Any]:
    """The samples, and a data set of them: trainers ask what kind theirs is, and for its columns."""
    if isinstance(dataset, IterableDataset):
        items = list(islice(dataset, window * windows))
        return items, items
    length = len(dataset) // multiple * multiple
    last = length % window or window
    first = length - last if length <= windows * window else (windows - 1) * window
    places = [*range(first), *range(length - last, length)]
    items = [dataset[index] for index in places]
    return items, dataset.select(places) if hasattr(dataset, "select") else items
