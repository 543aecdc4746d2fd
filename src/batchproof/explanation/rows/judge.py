"""Judge each trial: the same bits, rounding, a convention or a fault, and where it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from batchproof.explanation.cause_texts import finding
from batchproof.explanation.result import Code, Finding, ModuleGap, RowTrial
from batchproof.explanation.rows import causes
from batchproof.explanation.rows.configuration import is_causal
from batchproof.explanation.rows.locate import Located, RowsTracer
from batchproof.explanation.rows.measure import (
    NOISE,
    REPEATED,
    ModelOnRows,
    OutputGap,
    Unaligned,
    double,
    is_rounding,
    is_unstable,
    one_ulp,
    widened_pair,
    worst,
)
from batchproof.explanation.rows.memory import find_memory
from batchproof.explanation.rows.modes import in_narrow_numbers, with_training_on
from batchproof.explanation.rows.perturbations import (
    CallPair,
    Perturbation,
    TrialName,
    reason_of,
)
from batchproof.explanation.samples import Samples

#: What a trial is called in a report.
TITLES: dict[TrialName, str] = {
    "repeat": "called twice",
    "alone": "alone, not in a batch",
    "neighbours": "beside other samples",
    "order": "in another order",
    "size": "in batches of other sizes",
    "padding right": "padding on the right",
    "fixed length": "padded to a fixed length",
    "padding left": "padding on the left",
    "padding content": "other tokens in the padding",
    "packing": "packed with others",
    "scores": "scores of tokens, padded on the left",
    "greedy tokens": "greedy tokens, padded on the left",
    "training": "train() left on",
    "bfloat16": "in bfloat16",
}
#: In float64, what differs by less than this of a result's largest number is rounding.
TRACED = 1e-9
#: Parameters of which a copy in float64 is made without asking: 4 GB.
MOST_PARAMETERS = 500_000_000
_CODES: dict[str, Code] = {
    "padding": "padding", "fixed": "padding", "packing": "packing", "repeat": "state",
    "scores": "padding", "greedy": "padding"}  # fmt: skip


@dataclass
class RowFindings:
    """What was found.

    Attributes:
        trials: Each thing that must not matter.
        findings: Why it does, for each that does.
        one_ulp: How far the outputs move where what goes in moves by one unit in the last place.
        notes: What else to know.
        unclear: Why it cannot be told whether samples are independent, where no fault was found.
    """

    trials: list[RowTrial] = field(default_factory=list)
    findings: list[Finding[Code]] = field(default_factory=list)
    one_ulp: float | None = None
    notes: list[str] = field(default_factory=list)
    unclear: str = ""

    @property
    def faults(self) -> list[RowTrial]:
        """The trials that give another answer."""
        return [trial for trial in self.trials if trial.state == "fault"]


class Judge:
    """Measures trials one by one, and puts down what it finds."""

    def __init__(self, subject: ModelOnRows, found: RowFindings) -> None:
        self.subject = subject
        self.found = found
        self.narrowing: list[str] = []
        self.can_widen = parameter_count(subject.target) <= MOST_PARAMETERS
        found.one_ulp = one_ulp(subject)
        self.one_ulp_wide: float | None = None
        with self._double() as wide:
            if wide is not None:
                self.one_ulp_wide = _attempt(lambda: one_ulp(wide))
        self.tracers: dict[bool, RowsTracer] = {}

    def of(self, subject: ModelOnRows) -> Judge:
        """A judge of the same model, measured in another way."""
        other = copy(self)
        other.subject = subject
        return other

    def judge(self, trial: Perturbation) -> None:
        """One trial: tried, told from rounding, and looked for where it begins."""
        title = TITLES[trial.name]
        if trial.reason:
            self.found.trials.append(RowTrial(trial.name, title, "untried", note=trial.reason))
            return
        try:
            gap, pair = worst(self.subject, trial.pairs)
        except Unaligned:
            reason = "its output could not be laid beside that of the other call"
            self.found.trials.append(RowTrial(trial.name, title, "untried", note=reason))
            return
        except Exception as error:  # noqa: BLE001 - what the model does not take
            self.found.trials.append(RowTrial(trial.name, title, "untried", note=reason_of(error)))
            return
        if gap.size == 0:
            self.found.trials.append(_row(trial, gap, "same"))
            return
        wide = self._wide_gap(trial.pairs)
        if is_unstable(gap.size, None if wide is None else wide.size, self.found.one_ulp, self.one_ulp_wide):
            moved = f"{self.found.one_ulp or 0.0:.2g}"
            self.found.unclear = "one unit in the last place of the input moves an output as far as other samples do"
            note = f"one unit in the last place of the input moves it by {moved}: not told from rounding"
            self.found.trials.append(replace(_row(trial, gap, "untried", wide), note=note))
            return
        if is_rounding(gap.size, None if wide is None else wide.size, self.found.one_ulp, self.one_ulp_wide):
            located = self._located(pair, in_double=False)
            self.found.trials.append(_row(trial, gap, "rounding", wide, located, self.subject.target))
            return
        located = self._located(pair, in_double=wide is not None)
        self._fault(trial, gap, wide, located)

    def _fault(self, trial: Perturbation, gap: OutputGap, wide: OutputGap | None, located: Located) -> None:
        note = self._convention(trial, located)
        if not note and trial.name == "padding left" and trial.healers:  # what it can be told is none of the faults
            told = self._located(trial.healers[0][1][0], in_double=wide is not None)
            located = told if told.beginning is not None else located
        row = _row(trial, gap, "convention" if note else "fault", wide, located, self.subject.target)
        self.found.trials.append(replace(row, note=note))
        if not note:
            self._blame(trial, located, _kind(self.subject.target, located))

    def _blame(self, trial: Perturbation, located: Located, kind: str) -> None:
        name = self._what_matters(trial)
        code = _CODES.get(name.split()[0], "couples")
        begins = located.beginning
        if begins is None:
            if trial.name != "alone" or name == "alone":  # that padding matters is found once more, with its place
                self.found.findings.append(finding(code))
            return
        cause = causes.cause_of(name, begins, kind)
        title = _title(begins.step.module, kind)
        place = begins.step.place
        said = (code, title, cause.what)  # of the lines of one cause in one module the first trial's is the surest
        if any((own.code, own.title, own.what) == said for own in self.found.findings):
            return
        self.found.findings.append(finding(code, place, title=title, what=cause.what, remedy=cause.remedy))

    def _what_matters(self, trial: Perturbation) -> TrialName:
        """Alone a sample has neither neighbours nor padding: where neighbours do not matter, padding does."""
        coupled = any(own.name in ("neighbours", "order", "size") for own in self.found.faults)
        sequences = self.subject.sequences
        if trial.name in ("scores", "greedy tokens"):
            return "neighbours" if coupled else "padding left"
        if trial.name != "alone" or coupled or sequences is None or bool(sequences.real.all()):
            return trial.name
        return "padding left" if not bool(sequences.real[:, 0].all()) else "padding right"

    def _convention(self, trial: Perturbation, located: Located) -> str:
        """What the model has to be told so that the trial changes nothing; empty where nothing helps."""
        for said, pairs in trial.healers:
            if self._agrees(pairs):
                return said
        if trial.name == "packing" and self._is_encoder():
            return "one sample in a row: nothing tells it packed samples apart"
        clean = any(own.name == "padding right" and own.state in ("same", "rounding") for own in self.found.trials)
        sequences = self.subject.sequences
        if trial.name != "padding left" or not clean or sequences is None:
            return ""
        ways = [located, *(self._located(pairs[0], in_double=True) for _, pairs in trial.healers)]
        if any(way.beginning is not None and causes.reads_first_position(way.beginning) for way in ways):
            return "pad on the right: it reads its first position"  # BERT's pooler, by design
        if self._is_encoder() and not trial.healers and self._is_numbered(located):
            return "pad on the right: it numbers positions from there, and takes no position_ids"
        padded_right = bool(sequences.real[:, 0].all()) and not bool(sequences.real.all())
        if padded_right and not is_causal(self.subject.target):  # which is padded on the left to generate
            return "pad on the right, as these samples are"
        return ""

    def _is_numbered(self, located: Located) -> bool:
        """Whether what padding on the left changes are the numbers of positions, or of frames of sound."""
        begins, sequences = located.beginning, self.subject.sequences
        leaves = self.subject.samples.leaves
        is_sound = sequences is not None and any(leaves[leaf].is_floating_point() for leaf in sequences.at)
        if is_sound and self._is_encoder():
            return True
        return begins is not None and causes.cause_of("padding left", begins, "") is causes.NUMBERED

    def _is_encoder(self) -> bool:
        """One of transformers' that is no decoder: padding on the right and one sample in a row is how it is meant."""
        return bool(getattr(getattr(self.subject.target, "config", None), "model_type", "")) and not is_causal(
            self.subject.target
        )

    def _agrees(self, pairs: tuple[CallPair, ...]) -> bool:
        gap = _attempt(lambda: worst(self.subject, pairs)[0])
        if gap is None:
            return False
        wide = self._wide_gap(pairs) if gap.size else None
        wide_size = None if wide is None else wide.size
        return gap.size == 0 or is_rounding(gap.size, wide_size, self.found.one_ulp, self.one_ulp_wide)

    def _wide_gap(self, pairs: tuple[CallPair, ...]) -> OutputGap | None:
        with self._double() as wide:
            if wide is None:
                return None
            found: OutputGap | None = _attempt(lambda: worst(wide, pairs, wide=True)[0])
            return None if self.narrowing else found

    def _located(self, pair: CallPair, *, in_double: bool) -> Located:
        if not in_double or not self.can_widen:
            return _attempt(lambda: self._tracer(self.subject, False).compare(pair, 0.0)) or Located(None, ())
        with self._double() as wide:
            if wide is None:
                return Located(None, ())
            own = widened_pair(pair)
            return _attempt(lambda: self._tracer(wide, True).compare(own, TRACED)) or Located(None, ())

    def _tracer(self, subject: ModelOnRows, in_double: bool) -> RowsTracer:
        if in_double not in self.tracers:
            self.tracers[in_double] = RowsTracer(subject)
        return self.tracers[in_double]

    @contextmanager
    def _double(self) -> Iterator[ModelOnRows | None]:
        """The subject in float64, or None where it cannot be."""
        if not self.can_widen:
            yield None
            return
        with double(self.subject) as narrowing:
            self.narrowing = [] if narrowing is None else narrowing
            yield self.subject.widened() if narrowing is not None else None

    def other_modes(self, singles: tuple[CallPair, ...]) -> None:
        """What the model does in training mode, and in bfloat16."""
        self.found.trials.append(with_training_on(self.subject))
        state = next((trial.state for trial in self.found.trials if trial.name == "alone"), "untried")
        if state in ("same", "rounding"):
            self.found.trials.append(in_narrow_numbers(self.subject, singles))
        else:
            reason = "alone it is not what it is in a batch, in the model's own precision"
            self.found.trials.append(RowTrial("bfloat16", TITLES["bfloat16"], "untried", note=reason))

    def remembering(self, samples: Samples) -> None:
        """Whether a call changes the next one: something that the model writes to, and reads again."""
        few = self.subject.samples
        other = samples.reorder((torch.arange(few.n) + few.n) % samples.n) if samples.n > few.n else few
        found = _attempt(lambda: find_memory(self.subject, few, other))
        if found is None:  # other trials say what it does not take
            return
        name, title = "repeat", TITLES["repeat"]
        if found.gap == 0:
            self.found.trials.append(RowTrial(name, title, "same", 0.0))
            return
        if found.thing is None and found.gap <= min(NOISE * (self.found.one_ulp or 0.0), REPEATED):
            self.found.trials.append(RowTrial(name, title, "rounding", found.gap))
            return
        located = _attempt(lambda: self._tracer(self.subject, False).compare_repeated(few, other))
        begins = None if located is None else located.beginning
        module = found.module if begins is None or found.module is not None else begins.step.module
        kind = _kind_of(self.subject.target, module)
        place = None if begins is None else begins.step.place
        self.found.trials.append(
            RowTrial(
                name, title, "fault", found.gap, module=module, kind=kind, place=place,
                modules=() if located is None else located.modules,
            )
        )  # fmt: skip
        cause = causes.of_memory(found)
        self.found.findings.append(
            finding("state", place, title=_title(module, kind), what=cause.what, remedy=cause.remedy)
        )


def _row(
    trial: Perturbation,
    gap: OutputGap,
    state: Any,
    wide: OutputGap | None = None,
    located: Located | None = None,
    target: Any = None,
) -> RowTrial:
    begins = None if located is None else located.beginning
    return RowTrial(
        name=trial.name,
        title=TITLES[trial.name],
        state=state,
        gap=gap.size,
        double_gap=None if wide is None else wide.size,
        ulps=gap.ulps,
        flips=gap.flips,
        answers=gap.answers,
        module=None if begins is None else begins.step.module,
        kind="" if located is None else _kind(target, located),
        place=None if begins is None else begins.step.place,
        modules=() if located is None else tuple(ModuleGap(m.module, m.kind, m.size) for m in located.modules),
    )


def _title(module: str | None, kind: str) -> str:
    return f"{module or 'the model itself'} ({kind})" if kind else "the function itself"


def _kind(target: Any, located: Located) -> str:
    return "" if located.beginning is None else _kind_of(target, located.beginning.step.module)


def _kind_of(target: Any, module: str | None) -> str:
    if module is None or not isinstance(target, torch.nn.Module):
        return ""
    return type(target.get_submodule(module)).__name__


def parameter_count(target: Any) -> int:
    return sum(p.numel() for p in target.parameters()) if isinstance(target, torch.nn.Module) else 0


def _attempt(run: Callable[[], Any]) -> Any:
    """What a run gives, None where it fails: a model need not take what only we ask of it."""
    try:
        return run()
    except Exception:  # noqa: BLE001
        return None
