"""Score a metric object on the same samples, batched in several ways and merged from several copies."""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from batchproof.errors import BatchproofError
from batchproof.explanation.measure import Progress, SizeValues
from batchproof.explanation.samples import Samples
from batchproof.ground import components
from batchproof.ground.place import Place, place
from batchproof.ground.target import parameters
from batchproof.ground.tensors import NEXT_TO_NOTHING, close
from batchproof.ground.text import error_line, first_line

MOST_SAMPLES = 2048
Piece = tuple[int, int]


@dataclass(frozen=True)
class Scored:
    """What ``compute`` gave: in one update, for each batch size, for ragged batches, and merged from copies."""

    names: list[str]
    exact: torch.Tensor
    rows: list[SizeValues]
    ragged: list[torch.Tensor]
    merged: list[torch.Tensor]
    merge_refused: str | None


def score(metric: Any, samples: Samples, sizes: Sequence[int], seed: int, progress: Progress | None) -> Scored:
    """Score copies of ``metric``; the metric itself is left alone."""
    whole = _after(metric, samples, [(0, samples.n)])
    names, exact = components.names(whole), components.values(whole)
    rows = []
    for position, size in enumerate(sizes):
        if progress is not None:
            progress(f"batches of {size}", position, len(sizes))
        rows.append(_row(metric, samples, size, exact))
    cuts = ragged_partitions(samples.n, seed)
    ragged = [value for pieces in cuts if (value := _value(metric, samples, pieces)) is not None]
    merged, refused = _merged(metric, samples, cuts)
    return Scored(names, exact, rows, ragged, merged, refused)


def ragged_partitions(n: int, seed: int, count: int = 3) -> list[list[Piece]]:
    """Uneven batches: whole-sample cuts at random places."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        pieces = min(n, 5)
        inner = (
            torch.randperm(n - 1, generator=generator)[: pieces - 1] + 1 if n > 1 else torch.empty(0, dtype=torch.long)
        )
        cuts = [0, *sorted(inner.tolist()), n]
        found.append(list(itertools.pairwise(cuts)))
    return found


def one_by_one(metric: Any, samples: Samples) -> Callable[[int, int], torch.Tensor]:
    """The value of single batches, as ``metric(batch)`` in a loop gives it."""
    return lambda lo, hi: components.values(_after(metric, samples, [(lo, hi)]))


def in_double(metric: Any) -> Any | None:
    """A copy that accumulates in double precision, where the metric knows how."""
    twin = _fresh(metric)
    if hasattr(twin, "set_dtype"):
        return twin.set_dtype(torch.float64)
    return twin.double() if isinstance(twin, torch.nn.Module) else None


def _fresh(metric: Any) -> Any:
    try:
        twin = copy.deepcopy(metric)
    except Exception as error:
        raise BatchproofError(
            f"{type(metric).__name__} cannot be copied, and explain leaves yours alone: {error}"
        ) from error
    twin.reset()
    return twin


def _update(metric: Any, samples: Samples, piece: Piece) -> None:
    args, kwargs = samples.batch(*piece)
    if takes_a_tuple(metric, len(args)):
        args = [tuple(args)]
    metric.update(*args, **kwargs)


def takes_a_tuple(metric: Any, count: int) -> bool:
    """Ignite's ``update((y_pred, y))``."""
    return count > 1 and len(parameters(metric)) == 1


def _updated(metric: Any, samples: Samples, pieces: Iterable[Piece]) -> Any:
    twin = _fresh(metric)
    for piece in pieces:
        _update(twin, samples, piece)
    return twin


def _after(metric: Any, samples: Samples, pieces: Iterable[Piece]) -> Any:
    return _updated(metric, samples, pieces).compute()


def _value(metric: Any, samples: Samples, pieces: Iterable[Piece]) -> torch.Tensor | None:
    try:
        return components.values(_after(metric, samples, pieces))
    except Exception:  # noqa: BLE001 - small batches that fail are counted where sizes are
        return None


def _row(metric: Any, samples: Samples, size: int, exact: torch.Tensor) -> SizeValues:
    n = samples.n
    pieces = [(lo, min(n, lo + size)) for lo in range(0, n, size)]
    raised = None
    try:
        value = components.values(_after(metric, samples, pieces))
    except Exception as error:  # noqa: BLE001 - a metric that fails on small batches is a finding
        raised, value = error_line(error), torch.full_like(exact, torch.nan)
    if value.shape != exact.shape:
        raised, value = (
            f"compute() gives {len(value)} numbers instead of {len(exact)}",
            torch.full_like(exact, torch.nan),
        )
    count = len(pieces)
    undefined = count * (~value.isfinite() & exact.isfinite()).long()
    last = n % size
    return SizeValues(
        size,
        count,
        count,
        last,
        value,
        value,
        value,
        exact,
        value,
        value.abs(),
        value - value,
        exact,
        None,
        undefined,
        raised,
    )


def _merged(metric: Any, samples: Samples, cuts: list[list[Piece]]) -> tuple[list[torch.Tensor], str | None]:
    if not callable(getattr(metric, "merge_state", None)):
        return [], "it has no merge_state"
    values = []
    for pieces in cuts:
        try:
            values.append(components.values(_merge(metric, samples, pieces).compute()))
        except Exception as error:  # noqa: BLE001 - many metrics say here that they do not merge
            message = first_line(error) or type(error).__name__
            return values, message.partition(". ")[0].replace("`", "")
    return values, None


def _merge(metric: Any, samples: Samples, pieces: list[Piece]) -> Any:
    """torcheval takes a list of metrics, torchmetrics one at a time."""
    first, *others = [_updated(metric, samples, [piece]) for piece in pieces]
    try:
        copy.deepcopy(first).merge_state(copy.deepcopy(others))
    except (TypeError, ValueError, AttributeError):
        for other in others:
            first.merge_state(other)
        return first
    first.merge_state(others)
    return first


def blame(metric: Any, samples: Samples, pieces: list[Piece], tolerance: float) -> tuple[list[str], Place | None]:
    """The states that differ between one update and many, and the line of ``update`` that sets the first of them."""
    one, many = (_state(_updated(metric, samples, cut)) for cut in ([(0, samples.n)], pieces))
    moved = [name for name in one if name in many and not close(one[name], many[name], tolerance, NEXT_TO_NOTHING)]
    return moved, _assignment(metric, moved)


def _state(metric: Any) -> dict[str, torch.Tensor]:
    """Every numeric attribute; a list counts as its items, one after the other."""
    held = dict(vars(metric))
    if isinstance(metric, torch.nn.Module):
        held |= dict(metric.named_buffers(recurse=False))
    found = {}
    for name, value in held.items():
        if name.startswith("_") or isinstance(value, (bool, str)):
            continue
        try:
            parts = [
                torch.as_tensor(item).double() for item in (value if isinstance(value, (list, tuple)) else [value])
            ]
            found[name] = torch.cat([part.reshape(-1) for part in parts])
        except (TypeError, ValueError, RuntimeError):
            continue
    return found


def _assignment(metric: Any, attributes: Sequence[str]) -> Place | None:
    try:
        update = inspect.unwrap(type(metric).update)
        lines, first = inspect.getsourcelines(update)
        file = inspect.getsourcefile(update)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return None
    found = [node for node in ast.walk(tree) if isinstance(node, (ast.stmt, ast.expr)) and _touches(node, attributes)]
    # a counter is touched as well as the value that it counts: the value is the one to blame
    found.sort(key=lambda node: (isinstance(getattr(node, "value", None), ast.Constant), node.lineno))
    return place(file, first + found[0].lineno - 1) if found and file is not None else None


def _touches(node: ast.AST, attributes: Sequence[str]) -> Any:
    targets: list[ast.AST] = []
    if isinstance(node, ast.Assign):
        targets = list(node.targets)
    elif isinstance(node, ast.AugAssign):
        targets = [node.target]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        targets = [node.func.value]
    return any(isinstance(target, ast.Attribute) and target.attr in attributes for target in targets)


def bounded(samples: Samples) -> Samples:
    """Few enough samples for one update on each of them."""
    return samples if samples.n <= MOST_SAMPLES else replace(samples.first(MOST_SAMPLES), n=MOST_SAMPLES)
