"""A pass of several ranks put together: its number on all ranks' samples, and what lies between it and what is printed.

Each process of ``torchrun`` measures its own samples.  As they end the others hand the first what their passes were
computed from, in a file each, and the first computes on all of it what it computed on its own.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from batchproof.scripts.run.loaders import Undo, replaced
from batchproof.scripts.run.processes import rank, world
from batchproof.scripts.run.result import Epoch, RankValues
from batchproof.scripts.run.rows import FinishedPass

#: Bytes that all passes of a process may keep together, and seconds that the first waits for the others to end.
MOST_BYTES, LONGEST = 1 << 28, 20.0
#: Relative difference below which a printed number is one of those that it might be.
SAME = 5e-6


@dataclass(frozen=True)
class Reduced:
    """A number that the processes combined.

    Attributes:
        own: what this one had.
        mean: of all.
        total: their sum, where that is what it became.
    """

    own: float
    mean: float
    total: float | None = None


@dataclass
class KeptPass:
    """A pass of this process.

    Attributes:
        key: its accumulator and the calls that lead to it.
        done: what came in.
        batches: what it is computed from, batch by batch, its copies among them.
        is_sum: whether a batch's value is a sum over its samples.
        found: its numbers; None where they were never read.
    """

    key: str
    done: Any
    batches: list[list[Any]]
    is_sum: bool | None = None
    found: FinishedPass | None = None

    def data(self) -> dict[str, Any]:
        """What is handed to the first process."""
        from batchproof.scripts.run.epochs import as_numbers

        return {
            "key": self.key,
            "values": as_numbers(self.done.values),
            "weights": as_numbers(self.done.weights),
            "counts": list(self.done.counts),
            "copies": self.done.copies,
            "dataset": self.done.dataset,
            "batches": self.batches,
        }


@dataclass
class AllRanks:
    """The passes of this process, for as long as those of the others are needed beside them."""

    output: Path
    passes: list[KeptPass] = field(default_factory=list)
    reduced: list[Reduced] = field(default_factory=list)
    nbytes: int = 0
    world: int = 1
    is_handed_in: bool = False
    before_end: Callable[[], None] = lambda: None  # closes the passes that are open

    @classmethod
    def of(cls, output: Path) -> AllRanks | None:
        """Of a process that ``torchrun`` started with others on this machine; None where this is no such process."""
        count = os.environ.get("WORLD_SIZE", "1")
        is_here = "RANK" in os.environ and os.environ.get("LOCAL_WORLD_SIZE") == count
        return cls(output) if is_here and count.isdigit() and int(count) > 1 else None

    def watch(self, distributed: ModuleType) -> Undo:
        """Note single numbers that the processes combine, once ``torch.distributed`` is there."""
        own: Callable[..., Any] = getattr(distributed, "all_reduce", None) or (lambda *_, **__: None)

        def all_reduce(tensor: Any, op: Any = None, *args: Any, **kwargs: Any) -> Any:
            given = (op,) if op is not None else ()
            before = float(tensor) if tensor.numel() == 1 and not tensor.is_complex() else None
            result = own(tensor, *given, *args, **kwargs)
            if before is not None and result is None:
                kind: Any = getattr(distributed, "ReduceOp", None)
                if op is None or op == kind.SUM:
                    self.reduced.append(Reduced(before, float(tensor) / world(), float(tensor)))
                elif op == kind.AVG:
                    self.reduced.append(Reduced(before, float(tensor)))
            return result

        if not hasattr(distributed, "all_reduce"):
            return lambda: None
        end: Callable[..., None] = distributed.destroy_process_group

        def destroy_process_group(*args: Any, **kwargs: Any) -> None:
            if rank() != 0:  # torch may hang or abort in it, and what was measured is there
                self.before_end()
                self.hand_in()
            end(*args, **kwargs)

        undo = contextlib.ExitStack()
        undo.callback(replaced(distributed, "all_reduce", all_reduce))
        undo.callback(replaced(distributed, "destroy_process_group", destroy_process_group))
        return undo.close

    def keep(self, key: str, done: Any) -> KeptPass:
        """A pass that has ended, before its copies are left out."""
        self.world = max(self.world, world())
        batches: list[list[Any]] = []
        if done.batches is not None and not done.problem and not done.batches.folded_batches:
            nbytes = sum(tensor.nbytes for batch in done.batches.kept for tensor in batch)
            if self.nbytes + nbytes <= MOST_BYTES:
                self.nbytes += nbytes
                batches = [[tensor.detach().cpu().clone() for tensor in batch] for batch in done.batches.kept]
        kept = KeptPass(key, done, batches)
        self.passes.append(kept)
        return kept

    def hand_in(self) -> None:
        """Give what was kept to the first process, once: as this one leaves the group, or ends.

        A second time the first may have read it already, and what is written then stays.
        """
        import torch

        if rank() == 0 or self.is_handed_in:
            return
        self.is_handed_in = True
        file = self._file(rank())
        with contextlib.suppress(Exception):
            torch.save([kept.data() for kept in self.passes], file.with_suffix(".new"))
            file.with_suffix(".new").replace(file)

    def merge(self) -> str:
        """In the first process: put what the others hand in beside each pass; why it was not done, if it was not."""
        others = self._others()
        if others is None:
            why = f"not all of the other {self.world - 1} processes handed in what they measured"
            self._unknown(self.passes, why)
            return why
        mine = _by_key(self.passes, lambda kept: kept.key)
        theirs = [_by_key(passes, lambda data: data["key"]) for passes in others]
        for key, passes in mine.items():
            counts = {len(found.get(key, ())) for found in theirs}
            if counts == {0}:
                continue  # scored by the first alone
            if counts != {len(passes)}:
                self._unknown(passes, "the ranks do not go through it as often")
                continue
            for number, kept in enumerate(passes):
                if kept.found is not None:
                    _merge(kept, [found[key][number] for found in theirs], self.reduced)
        return ""

    def _unknown(self, passes: Sequence[KeptPass], why: str) -> None:
        """Passes of which only this process's share is known."""
        for kept in passes:
            if kept.found is not None:
                own = kept.found.epoch
                kept.found.epoch = replace(own, ranks=RankValues(self.world, own.printed, own.averaged, reason=why))

    def _others(self) -> list[list[dict[str, Any]]] | None:
        import torch

        until = time.monotonic() + LONGEST
        files = [self._file(number) for number in range(1, int(os.environ["WORLD_SIZE"]))]
        try:
            while not all(file.exists() for file in files):
                if time.monotonic() > until:
                    return None
                time.sleep(0.02)
            return [torch.load(file, weights_only=True) for file in files]
        except Exception:  # noqa: BLE001 - what cannot be read was not handed in
            return None
        finally:
            for file in files:
                file.unlink(missing_ok=True)

    def _file(self, number: int) -> Path:
        """All processes of one launcher have one parent: what another run left is no part of this one."""
        return self.output.with_name(f"ranks.{os.getppid()}.{number}.part")


def _by_key(passes: Sequence[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for each in passes:
        found.setdefault(key(each), []).append(each)
    return found


def _merge(kept: KeptPass, others: list[dict[str, Any]], reduced: Sequence[Reduced]) -> None:
    """Put what is known of all ranks into a pass."""
    from batchproof.scripts.run.epochs import epoch_of, reason, scale_of

    found = kept.found
    assert found is not None
    done, own = kept.done, found.epoch
    shares = [kept.data(), *others]
    together = replace(
        done,
        values=[value for share in shares for value in share["values"]],
        weights=[weight for share in shares for weight in share["weights"]],
        counts=[count for share in shares for count in share["counts"]],
        copies=0,
        inputs=None,
        batches=None,
    )
    scale = scale_of(done, kept.is_sum)
    scale = scale if scale != 1.0 else scale_of(together, kept.is_sum)

    def numbers(of: Any, exact: float | None = None) -> Epoch:
        return epoch_of(replace(of, printed=None), kept.is_sum, None, exact, scale)

    means = [
        numbers(replace(together, values=s["values"], weights=s["weights"], counts=s["counts"])).averaged
        for s in shares
    ]
    with_copies, exact, problem = _exact(kept, shares)
    copies = sum(share["copies"] for share in shares)
    whole = numbers(together, with_copies)
    alone = numbers(replace(together, copies=copies), exact)
    mean = math.fsum(value for value in means if value is not None) / len(means) if None not in means else None
    printed = own.printed
    combined = printed
    if (sent := next((each for each in reversed(reduced) if _same(each.own, printed)), None)) is not None:
        # shares of one whole are added up; means are taken to be divided by how many there are
        adds = any(_same(sent.total, of) for of in (whole.averaged, whole.weighted))
        combined = sent.total if adds else sent.mean
    values = RankValues(
        ranks=len(shares), printed=combined, own=means[0], mean=mean, averaged=whole.averaged, weighted=whole.weighted,
        with_copies=whole.exact, exact=alone.exact, samples=whole.samples, copies=copies, reason=problem,
    )  # fmt: skip
    datasets = [share["dataset"] or 0 for share in shares]
    if sum(datasets) == whole.samples - copies:  # each rank has data of its own
        own = replace(own, dataset=sum(datasets))
    if values.kind in ("", "own"):
        found.epoch = replace(own, ranks=values)
        return
    found.epoch = replace(
        whole, number=own.number, printed=combined, exact=alone.exact, settled=None, duplicates=copies,
        dataset=own.dataset, loader=own.loader, steps=own.steps, updates=own.updates, reason=problem, ranks=values,
    )  # fmt: skip
    of_batches = reason(done, replace(found.epoch, printed=values.averaged), kept.is_sum)
    found.why = _why(values) or (of_batches if found.epoch.is_exact is False else ("", ""))


def _why(values: RankValues) -> tuple[str, str] | None:
    """Why the number of all ranks is off, where ranks are the main reason."""
    amounts = dict(values.parts)
    if not amounts or values.weighted is None or values.with_copies is None or values.averaged is None:
        return None
    amounts["short"], amounts["arithmetic"] = values.averaged - values.weighted, values.weighted - values.with_copies
    worst = max(amounts, key=lambda name: abs(amounts[name]))
    if values.exact is None or abs(amounts[worst]) <= SAME * abs(values.exact):
        return None
    copied = "a sample is" if values.copies == 1 else f"{values.copies:,} samples are"
    return {
        "mean of ranks": (
            "the mean of each rank counts as much as any other's, whatever its samples",
            "add up totals and numbers of samples over the ranks, and divide once",
        ),
        "copies": (
            f"{copied} scored twice so that all ranks have as many",
            "score each sample once: give each rank a share of its own",
        ),
    }.get(worst)


def _exact(kept: KeptPass, shares: list[dict[str, Any]]) -> tuple[float | None, float | None, str]:
    """The formula on all ranks' samples with their copies and without, and why there is no value."""
    from batchproof.scripts.run.formula import Unmeasured
    from batchproof.scripts.run.pooled import Batches

    done = kept.done
    if done.problem or done.batches is None:
        return None, None, done.problem or "no formula was recognised"
    if any(len(share["batches"]) != len(share["values"]) for share in shares):
        return None, None, "what the other ranks computed it from was not kept"
    try:
        values = []
        for copies in (False, True):
            again = Batches(done.batches.formula, None)
            for share in shares:
                own = Batches(done.batches.formula, share["values"])
                own.fixed = done.batches.fixed
                for batch in share["batches"]:
                    own.add(batch, [None] * len(batch), len(batch[0]))
                if copies and share["copies"]:
                    own.last_count = share["counts"][-1] or own.last_count
                    own.copies = share["copies"]
                own.value()  # the script's function gives on this rank what the script added there
                for batch in own.kept:
                    again.add(batch, [None] * len(batch), len(batch[0]))
            values.append(again.value())
        return values[0], values[1], ""
    except Unmeasured as error:
        return None, None, str(error)


def _same(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=SAME)
