"""Which passes are of one number: a row for each number that the script reports, with epochs of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from batchproof.scripts.run.origins import PassOrigin
from batchproof.scripts.run.result import Epoch, MeasuredAccumulator


@dataclass
class FinishedPass:
    """A pass that was measured.

    Attributes:
        epoch: its numbers.
        origin: where it comes from.
        why: why it is off, and what to do.
        is_sum: whether a batch's value is a sum.
        trains_on_sum: whether what is trained on is one.
    """

    epoch: Epoch
    origin: PassOrigin
    why: tuple[str, str] = ("", "")
    is_sum: bool | None = None
    trains_on_sum: bool | None = None

    @property
    def trains(self) -> bool:
        """Whether the weights change on the way."""
        return self.epoch.updates > 0


@dataclass
class _Row:
    """The passes of one number, and how it is known again."""

    key: object
    passes: list[FinishedPass] = field(default_factory=list)
    loaders: set[int] = field(default_factory=set)
    calls: set[object] = field(default_factory=set)

    def add(self, found: FinishedPass, call: object) -> None:
        self.passes.append(found)
        self.calls.add(call)
        if found.origin.loader is not None:
            self.loaders.add(found.origin.loader)


def split(known: MeasuredAccumulator, passes: Sequence[FinishedPass]) -> list[MeasuredAccumulator]:
    """A row for each number.

    Two passes are of one number where they go by one name and are both over one loader, or both come from one call that
    gets a new loader each time.

    Args:
        known: all that the passes have in common.
        passes: in their order.
    """
    kept = _kept_loaders(passes)
    rows: list[_Row] = []
    for found in passes:
        origin = found.origin
        # not by whether weights changed: a pass of too few batches for an update is one of the same number
        key = name_of(known, origin), origin.word, origin.words
        alternates = len(kept.get(origin.path, ())) > 1
        call = (origin.path, found.epoch.dataset, origin.loader if alternates else None)
        same = [row for row in rows if row.key == key]
        row = next((row for row in same if origin.loader in row.loaders), None)
        row = row or next((row for row in same if call in row.calls), None)
        if row is None:
            row = _Row(key)
            rows.append(row)
        row.add(found, call)
    return _named(known, rows)


def _kept_loaders(passes: Sequence[FinishedPass]) -> dict[object, set[int]]:
    """By call: the loaders that take turns there, as validation and test loaders do; not one that is built anew."""
    last: dict[object, int] = {}
    seen: dict[object, set[int]] = {}
    turns: dict[object, bool] = {}
    for found in passes:
        path, loader = found.origin.path, found.origin.loader
        if loader is None:
            continue
        before = seen.setdefault(path, set())
        turns[path] = turns.get(path, False) or (loader in before and last.get(path) != loader)
        before.add(loader)
        last[path] = loader
    return {path: loaders for path, loaders in seen.items() if turns.get(path)}


def name_of(known: MeasuredAccumulator, origin: PassOrigin) -> str:
    """What the caller gives the value to, where that is one of the names that the number goes by."""
    own = {name.partition("[")[0]: name for name in known.names if name != known.accumulator}
    for name in origin.names:
        if name in known.names and name != known.accumulator:
            return name
        if "[" in name and name.partition("[")[0] in own:
            return name
    return _with_words(known.name, origin)


def _with_words(name: str, origin: PassOrigin) -> str:
    """``out[val]`` for ``out[part]``."""
    for variable, word in origin.words:
        name = name.replace(f"[{variable}]", f"[{word}]")
    return name


def _named(known: MeasuredAccumulator, rows: list[_Row]) -> list[MeasuredAccumulator]:
    """Each under a name of its own."""
    found = []
    both = len({row.passes[0].trains for row in rows}) > 1
    names = [name_of(known, row.passes[0].origin) for row in rows]
    for number, row in enumerate(rows):
        first = row.passes[0]
        name = names[number]
        if names.count(name) > 1:
            name = f"{name}, {_apart(row, [each for each, own in zip(rows, names, strict=True) if own == name])}"
        is_own = len(rows) > 1 and names[number] != known.name
        aliases = (name,) if is_own or names.count(names[number]) > 1 else known.names
        aliases = tuple(dict.fromkeys((name, *aliases)))
        telling = [each.why for each in row.passes if any(each.why)]
        why, remedy = telling[-1] if telling else ("", "")
        found.append(
            replace(
                known,
                name=name,
                names=aliases,
                phase=("training" if first.trains else "evaluation") if both else known.phase,
                is_sum=row.passes[-1].is_sum,
                trains_on_sum=row.passes[-1].trains_on_sum,
                why=why,
                cause=known.cause if why == known.why else None,
                remedy=remedy,
                epochs=tuple(replace(each.epoch, number=count) for count, each in enumerate(row.passes, 1)),
            )
        )
    return found


def _only_own(given: tuple[str, ...], all_given: list[tuple[str, ...]]) -> str:
    """Of what a function is called with, the first that other calls give it not."""
    return next((name for name in given if any(name not in other for other in all_given)), "")


def _apart(row: _Row, rows: list[_Row]) -> str:
    """What tells a row from others of its name."""
    first = row.passes[0]
    tellers = (
        lambda each: ", ".join(word for _, word in each.origin.words),
        lambda each: each.origin.word,
        lambda each: "training" if each.trains else "evaluation",
        lambda each: each.origin.argument,
        lambda each: _only_own(each.origin.given, [row.passes[0].origin.given for row in rows]),
        lambda each: f"on {each.epoch.dataset:,}" if each.epoch.dataset else "",
    )
    for tell in tellers:
        told = [tell(each.passes[0]) for each in rows]
        if all(told) and told.count(tell(first)) == 1:
            return tell(first)
    telling = [tell for tell in tellers if len({tell(each.passes[0]) for each in rows}) > 1]
    parts = [tell(first) for tell in telling]
    alike = [each for each in rows if [tell(each.passes[0]) for tell in telling] == parts]
    return ", ".join([*(part for part in parts if part), *([str(alike.index(row) + 1)] if len(alike) > 1 else [])])
