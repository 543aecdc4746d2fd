"""What went wrong between the backward passes, or before anything could be compared: each cause in words."""

from __future__ import annotations

from collections.abc import Sequence

from batchproof.explanation import Finding
from batchproof.gradients.check.causes import MOST_NAMES, some
from batchproof.gradients.check.result import GradientCode


def running_total(passes: int) -> Finding[GradientCode]:
    """Each pass goes back through the micro-batches before it."""
    return Finding(
        "running-total",
        "earlier micro-batches count several times",
        f"the last of {passes} backward passes alone brings the full gradient: each goes back through all "
        "micro-batches before it as well, as total += loss; total.backward() does",
        "call backward() on each micro-batch's own loss, or once on the total after the last one",
    )


def not_compared(passes: int, configured: int) -> Finding[GradientCode]:
    """Both runs did the same."""
    wanted = f", not {configured}" if configured > passes else ""
    return Finding(
        "not-compared",
        "nothing was compared",
        f"the accumulated run made {passes} backward pass{'es' if passes > 1 else ''}{wanted}, on the same batches as "
        "the run of the whole batch: equal gradients say nothing of how it accumulates",
        "let the accumulated run cut the batch into micro-batches; a trainer that makes its batches itself needs a "
        "check of its loop: check_gradients(full, accumulated, model)",
    )


def other_samples(missing: int, extra: int, n: int, again: int) -> Finding[GradientCode]:
    """The micro-batches do not hold the samples of the whole batch."""
    said = [f"{missing} of the {n} samples of the whole batch are in no micro-batch"] if missing else []
    said += [f"{again} of them count more often than others"] if again else []
    said += [f"{extra} samples are in the micro-batches only"] if extra else []
    return Finding(
        "other-samples",
        "other samples in the two runs",
        "; ".join(said),
        "give both runs the same samples, each once: a loop that drops a short last micro-batch, and a sampler that "
        "repeats samples to fill up, do not",
    )


def other_numbers(full: int, accumulated: int) -> Finding[GradientCode]:
    """More rows in one run than in the other."""
    return Finding(
        "other-samples",
        "other samples in the two runs",
        f"the model saw {full} rows of the whole batch and {accumulated} in the micro-batches, and no weights of these "
        "give the full gradient",
        "give both runs the same samples, each once",
    )


def stepped_between(passes: int) -> Finding[GradientCode]:
    """Weights change while gradients are accumulated."""
    return Finding(
        "stepped-between",
        "weights that change between micro-batches",
        f"the weights changed between the {passes} backward passes, so later gradients are those of another model",
        "call optimizer.step() once, after the last micro-batch",
    )


def dropped(left: Sequence[int], calls: int) -> Finding[GradientCode]:
    """No backward pass came back to some forward passes."""
    which = f"{'number' if len(left) == 1 else 'numbers'} {some([str(number) for number in left])}"
    return Finding(
        "dropped-micro-batches",
        "micro-batches without a backward pass",
        f"no backward pass came to {len(left)} of {calls} forward passes ({which})",
        "call backward() for every micro-batch: inside the loop, not after it, also where no optimizer step follows",
    )


def cleared(lost: Sequence[int], passes: int) -> Finding[GradientCode]:
    """Some passes are not in ``.grad`` at the end."""
    which = (
        "only the last is left"
        if list(lost) == list(range(1, passes))
        else (
            f"{'number' if len(lost) == 1 else 'numbers'} {some([str(number) for number in lost])} "
            f"{'is' if len(lost) == 1 else 'are'} missing"
        )
    )
    return Finding(
        "cleared-between",
        "gradients cleared between micro-batches",
        f".grad at the end is not the sum of what {passes} backward passes brought: {which}",
        "call zero_grad() once for each optimizer step, before the first micro-batch; look for what overwrites .grad",
    )


def counted_again(often: Sequence[int]) -> Finding[GradientCode]:
    """Some passes are in ``.grad`` several times."""
    times_each = ", ".join(map(str, often[:MOST_NAMES])) + (", ..." if len(often) > MOST_NAMES else "")
    return Finding(
        "counted-again",
        "micro-batches that count several times",
        f".grad at the end holds what the backward passes brought {times_each} times",
        "look for what adds, reduces or restores gradients between backward passes",
    )


def scaled_between(shares: Sequence[float]) -> Finding[GradientCode]:
    """Passes count by other weights in ``.grad`` than one."""
    each = ", ".join(f"{one:.2g}" for one in shares[:MOST_NAMES]) + (", ..." if len(shares) > MOST_NAMES else "")
    return Finding(
        "scaled-between",
        "gradients scaled between micro-batches",
        f".grad at the end is not the sum of what the backward passes brought, which count {each} in it",
        "clip, unscale and average gradients once, after the last micro-batch",
    )


def changed_between(passes: int) -> Finding[GradientCode]:
    """What is in ``.grad`` is no weighted sum of the passes."""
    return Finding(
        "changed-between",
        "gradients changed after a backward pass",
        f".grad at the end is not the sum of what {passes} backward passes brought, nor a multiple of it: something "
        "wrote to it",
        "look for what clips by value, adds noise, rounds or overwrites .grad between backward passes or after them",
    )
