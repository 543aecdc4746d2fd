"""The verb: see what the target is, measure it, find the cause, and put both together."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from typing import Any

from batchproof.errors import BatchproofError
from batchproof.explanation.about_function import about_function
from batchproof.explanation.about_metric import about_metric
from batchproof.explanation.about_model import about_model
from batchproof.explanation.groups import given_groups
from batchproof.explanation.guess import guess_samples
from batchproof.explanation.measure import Progress, Sizes, to_try
from batchproof.explanation.models import row_leaves
from batchproof.explanation.result import Explanation, Subject
from batchproof.explanation.rows import Over, check_over, parameters_of
from batchproof.explanation.samples import Samples, gather
from batchproof.ground.batch import check_batch_dim
from batchproof.ground.held_state import held_still
from batchproof.ground.isolation import muted, preserved, quiet
from batchproof.ground.target import is_metric, place_of, signature_of, title_of


def explain(
    target: Any,
    *example: Any,
    batch_dim: int | Sequence[int | None] | Mapping[str, int | None] = 0,
    batch_sizes: Iterable[int] | None = None,
    seed: int = 0,
    mark: int | None = None,
    groups: Any = None,
    over: Sequence[Over] | None = None,
    progress: Progress | None = None,
    **keywords: Any,
) -> Explanation:
    """Say whether a number depends on the batch size, why, at which line, and by how much.

    >>> import batchproof, torch
    >>> def rmse(pred, real):
    ...     return (pred - real).square().mean().sqrt()
    >>> print(batchproof.explain(rmse, torch.arange(100.0), torch.zeros(100)))
    ✗ rmse depends on the batch size: averaged over batches, it is ... too low at batch size ...
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2))
    >>> batchproof.explain(model, torch.randn(20, 4)).findings[0].title
    '1 (BatchNorm1d, training mode)'

    Args:
        target: A function of a batch, a metric object with update, compute and reset, or a model.  It is called some
            hundred times, on batches of each size, and at most some thousand; what it prints and logs is left out.
        example: All the samples that there are, as the target takes them: tensors of any dtype, arrays or lists, with
            one entry for each sample; or for a model one mapping of its arguments, as tokenizers give it.  Guessed from
            the parameters' names if absent.
        batch_dim: The batch dimension; or one for each positional example, or by the names of arguments, with None for
            what all batches share.
        batch_sizes: The sizes to try; 1, 2, 4, ... and all samples if None.
        seed: For the one shuffle of the samples, and before every call of the target.
        mark: Your own batch size: it is measured among the others, and the report says what it reads there.
        groups: For each sample the group that it belongs to (the prompt of an answer, a session), all of one size:
            batches hold whole groups then, and the report says whether the target needs that.  Found where a function
            fails on batches that split one.
        over: Of a model, what its answers must not depend on: any of ``"batch"``, ``"order"``, ``"padding"`` and
            ``"packing"`` and ``"generation"``; all that it takes if None.
        progress: Called with a word, a count and a total during long work.
        keywords: Further arguments of the target.  Those with as many samples as the example are cut with it.

    Returns:
        An `Explanation`; printed, it is the report.

    Raises:
        BatchproofError: The example does not fit together, or none could be guessed.
    """
    if not (callable(target) or is_metric(target)):
        raise BatchproofError(f"{type(target).__name__} is neither a function, nor a metric object, nor a model")
    given = sorted({_whole(size) for size in batch_sizes}) if batch_sizes is not None else None
    marked = _whole(mark) if mark is not None else None
    sizes = partial(to_try, given, marked)
    told = _aloud(progress)
    check_over(over)
    example, keywords = _by_name(target, example, keywords)
    with preserved(target), held_still(target), quiet(target), muted() as heard:
        guessed = not example and not keywords
        if guessed:
            example = guess_samples(target)
        samples = gather(signature_of(target), example, keywords, check_batch_dim(batch_dim), not is_metric(target))
        subject = Subject(
            target, title_of(target), place_of(target), samples.given(guessed), tuple(given or ()), marked
        )
        if groups is not None:
            found = _about_groups(subject, samples, sizes, seed, told, groups)
        elif is_metric(target):
            found = about_metric(subject, samples, sizes, seed, told)
        else:
            found = _about_outputs(subject, samples, sizes, seed, over, told)
    if too_large := [size for size in given or () if size > samples.n]:
        sizes_are = f"batch size {too_large[0]:,} is" if len(too_large) == 1 else "some batch sizes are"
        found = replace(found, notes=(*found.notes, f"{sizes_are} larger than the {samples.n:,} samples: left out"))
    if heard.getvalue():
        found = replace(
            found, notes=(*found.notes, f"called {samples.calls.count:,} times; what it printed is left out")
        )
    return replace(_no_safer_than_a_guess(found) if guessed else found, calls=samples.calls.count)


def _about_groups(
    subject: Subject, samples: Samples, sizes: Sizes, seed: int, progress: Progress | None, groups: Any
) -> Explanation:
    """Of a function of a batch, on whole groups."""
    leaves = [] if is_metric(subject.target) else row_leaves(subject.target, samples)
    if is_metric(subject.target) or (leaves and all(leaves)):
        raise BatchproofError("groups are for a function that gives a value of the batch, not for a metric or a model")
    together, grouping = given_groups(samples, groups)
    chosen = [not grows for grows in leaves] if any(leaves) else None
    return about_function(subject, together, sizes, seed, progress, chosen, grouping)


def _aloud(progress: Progress | None) -> Progress | None:
    """The same, written to where it would be now."""
    out, err = sys.stdout, sys.stderr

    def told(text: str, done: int, total: int) -> None:
        with redirect_stdout(out), redirect_stderr(err):
            progress(text, done, total)  # type: ignore[misc]

    return None if progress is None else told


def _by_name(target: Any, example: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A mapping of a model's own arguments (a tokenizer's) is handed over by their names, as ``model(**batch)``."""
    if len(example) != 1 or not isinstance(example[0], Mapping) or not all(isinstance(key, str) for key in example[0]):
        return example, keywords
    takes = parameters_of(target)
    if not takes or not takes.issuperset(example[0]):
        return example, keywords
    return (), {**example[0], **keywords}


def _about_outputs(
    subject: Subject,
    samples: Samples,
    sizes: Sizes,
    seed: int,
    over: Sequence[Over] | None,
    progress: Progress | None,
) -> Explanation:
    """Of a loss beside its outputs each is explained: the values of the batch first, then those of single samples."""
    leaves = row_leaves(subject.target, samples)
    if not any(leaves):
        return about_function(subject, samples, sizes, seed, progress)
    of_rows = about_model(subject, samples, leaves, sizes, seed, over, progress)
    if all(leaves):
        return of_rows
    of_batch = about_function(subject, samples, sizes, seed, progress, [not grows for grows in leaves])
    first, other = (of_batch, of_rows) if _gravity(of_batch) >= _gravity(of_rows) else (of_rows, of_batch)
    of_other = "with a value for each sample" if other is of_rows else "with one value for the batch"
    return replace(first, notes=(*first.notes, f"the outputs {of_other}: {other.headline}"))


def _gravity(found: Explanation) -> int:
    return {True: 0, None: 1, False: 2}[found.is_safe]


def _no_safer_than_a_guess(found: Explanation) -> Explanation:
    """What was made up from names may be what a function is constant on: two images that are equal, a single class."""
    if found.is_safe is not True:
        return found
    headline = re.sub(r" is safe[^:]*: ", " looks safe on guessed inputs: ", found.headline, count=1)
    return replace(found, is_safe=None, headline=headline)


def _whole(size: Any) -> int:
    if isinstance(size, bool) or int(size) != size or size < 1:
        raise BatchproofError(f"a batch size is a whole number from 1 on, not {size!r}")
    return int(size)
