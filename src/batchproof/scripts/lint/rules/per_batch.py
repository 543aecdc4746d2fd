"""BP1: what a batch yields is not what the data yields, so that no weighting mends its average."""

from __future__ import annotations

import ast

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rules.rule import (
    Mark,
    Rule,
    Verdict,
    division,
    function_of,
    name_of,
    origin,
    reported,
    value_of,
)
from batchproof.scripts.source import Divisor, Quantity, Site, Weight

DIRECTION = {"sqrt": "it tends to read low", "exp": "it tends to read high", "perplexity": "it tends to read high"}
#: Functions of one number, each entry of a tensor by itself: the mean over the batch was taken before.
_ELEMENTWISE = {"sqrt", "exp", "log", "log2", "log10", "pow"}


def nonlinear(site: Site) -> Verdict | None:
    """A nonlinear metric of each batch, averaged in whatever way."""
    if not _averages(site, Quantity.NONLINEAR):
        return None
    direction = DIRECTION.get(_name_of(site.added.origin), "")
    because = site.added.why or "it is no mean over samples"
    message = f"{name_of(site)} averages {value_of(site)} over batches, and that depends on the batch size: {because}"
    return Verdict(
        site.add, message + f"; {direction}" * bool(direction), _exact_remedy(site), origin(site) + _divided(site)
    )


def ratio(site: Site) -> Verdict | None:
    """A ratio with a denominator of its own in each batch."""
    if not _averages(site, Quantity.RATIO) or _weighted_by_its_own(site):
        return None
    because = site.added.why or "its denominator depends on the batch"
    message = f"{name_of(site)} averages {value_of(site)} over batches, each divided by something else: {because}"
    remedy = "add up numerators and denominators, and divide once after the loop"
    if function_of(site):
        remedy += f"; or use batchproof.exact({function_of(site)})"
    return Verdict(site.add, message, remedy, origin(site) + _divided(site))


def _weighted_by_its_own(site: Site) -> bool:
    """A mean over tokens, times the tokens, over all tokens is the mean over all tokens."""
    average = reported(site)
    return site.added.weight is Weight.OWN and average is not None and average.divisor is Divisor.WEIGHTS


def coupled(site: Site) -> Verdict | None:
    """A loss in which the samples of a batch meet each other."""
    if not _averages(site, Quantity.COUPLED):
        return None
    because = site.added.why or "the samples of a batch are compared with each other"
    message = (
        f"{name_of(site)} averages {value_of(site)} over batches, and another batch size is another loss: {because}"
    )
    remedy = "compare runs at one batch size only, or report a metric that scores each sample on its own"
    return Verdict(site.add, message, remedy, origin(site) + _divided(site))


def _averages(site: Site, quantity: Quantity) -> bool:
    """Whether values of this kind are averaged, of batches that hold more than one sample."""
    return site.added.quantity is quantity and reported(site) is not None and site.loop.loader.batch_size != 1


def _divided(site: Site) -> tuple[Mark, ...]:
    average = reported(site)
    assert average is not None
    weighted = site.added.weight is not Weight.NONE or average.divisor in (Divisor.SAMPLES, Divisor.WEIGHTS)
    return division(site, "averaged here; weighting does not mend it" if weighted else "averaged here")


def _exact_remedy(site: Site) -> str:
    function = function_of(site)
    if _name_of(site.added.call) in _ELEMENTWISE:  # what it is taken of is a batch's mean already
        return "average what it is taken of, each batch weighted by its number of samples, and take it once at the end"
    if function is not None and _takes_a_batch(site.added.call):
        return f"metric = batchproof.exact({function}): call it on each batch, report metric.compute() after the loop"
    return "keep what it is made of (sums and counts, or all predictions), and compute it once after the loop"


def _takes_a_batch(call: ast.expr | None) -> bool:
    return isinstance(call, ast.Call) and bool(call.args)


def _name_of(node: ast.AST | None) -> str:
    """The last name of a call: ``sqrt`` of ``torch.sqrt(x)``; of ``x ** 0.5`` too."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return "sqrt" if isinstance(node.right, ast.Constant) and node.right.value == 0.5 else ""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


BP101 = Rule(
    "BP101",
    "nonlinear-metric-averaged",
    Severity.ERROR,
    "a square root, F1, AUC, R² or the like of each batch, averaged over batches",
    """\
Finds a metric that is no mean over samples, computed on each batch and averaged over the batches: a root mean square
error, a perplexity, PSNR, F1, precision, AUC, IoU, R², a correlation.

## Why it is bad

Such a metric first takes sums over the samples and then does something nonlinear with them. The mean of many small
roots is not the root of the mean. The average depends on how the data was cut, so two runs with different batch sizes
cannot be compared, although the models may be the same. Weighting the batches by their size does not help.

## How large it is

Predictions that correlate 0.8 with their targets, and labels of which one in ten is positive, each scored on 51,200
samples:

| metric | all samples | batches of 16 | of 64 | of 128 |
| --- | --- | --- | --- | --- |
| RMSE | 0.633 | 1.6 % low | 0.4 % low | 0.2 % low |
| R² | 0.599 | 14.6 % low | 2.9 % low | 1.3 % low |
| F1, rare positives | 0.792 | 16.3 % low | 2.1 % low | 1.0 % low |
| perplexity | 17.3 | 15.0 % high | 3.1 % high | 1.5 % high |

Heavier tails and rarer classes make it worse. Whatever the metric, the bias shrinks roughly as one over the batch size.

## Example

```py
import torch


def rmse(pred, y):
    return torch.sqrt(((pred - y) ** 2).mean())


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += rmse(model(x), y).item()
    return total / len(loader)
```

Instead:

```py
import torch

import batchproof


def rmse(pred, y):
    return torch.sqrt(((pred - y) ** 2).mean())


def evaluate(model, loader):
    metric = batchproof.exact(rmse)
    for x, y in loader:
        metric.update(model(x), y)
    return metric.compute().item()
```

By hand it is a sum of squares and a count, and one root at the end.

## Fix

Safe, where the function stands in the same file and takes nothing but the batch: the call goes through
`batchproof.exact`, which still gives the batch's own value for `backward`, and the report takes `compute()`. The
printed number changes: it is the one on all samples together.
""",
    site=nonlinear,
)

BP102 = Rule(
    "BP102",
    "ratio-averaged",
    Severity.WARNING,
    "a class-weighted, masked or token mean of each batch, averaged over batches",
    """\
Finds a loss or metric that divides by something that differs between batches: the sum of class weights, the number of
tokens that are not padding, the number of positives, the size of a mask.

## Why it is bad

Each batch's value is a ratio. Its average gives every batch the same say, although one may hold ten tokens and another
a thousand. Samples in batches with a small denominator count more. Weighting by the number of samples does not help,
because samples are not what the ratio divides by.

## How large it is

Sequences of 1 to 100 tokens where long ones have a lower loss per token, and a cross-entropy with class weights from 1
to 20, on 51,200 samples:

| loss | all samples | batches of 4 | of 16 | of 64 |
| --- | --- | --- | --- | --- |
| token mean | 1.660 | 4.0 % high | 0.9 % high | 0.2 % high |
| class weights | 1.076 | 6.5 % low | 0.9 % low | 0.2 % low |

It vanishes where the denominators are all alike, and grows with how much they differ and how closely they go with the
loss.

## Example

```py
from torch import nn


def evaluate(model, loader, class_weights):
    criterion = nn.CrossEntropyLoss(weight=class_weights)
    total = 0.0
    for x, y in loader:
        total += criterion(model(x), y).item()
    return total / len(loader)
```

Instead:

```py
from torch import nn


def evaluate(model, loader, class_weights):
    criterion = nn.CrossEntropyLoss(weight=class_weights, reduction="sum")
    total, weights = 0.0, 0.0
    for x, y in loader:
        total += criterion(model(x), y).item()
        weights += class_weights[y].sum().item()
    return total / weights
```

`batchproof.exact(criterion)` does the same without a second accumulator.

## Fix

None yet: which denominator is meant is for you to say.
""",
    site=ratio,
)

BP103 = Rule(
    "BP103",
    "coupled-loss-averaged",
    Severity.WARNING,
    "a contrastive, triplet or other loss that compares the samples of a batch, averaged over batches",
    """\
Finds a loss in which each sample is compared with the others of its batch: in-batch negatives (InfoNCE, CLIP, SimCLR),
batch-hard triplets, Barlow Twins, MMD.

## Why it is bad

The batch size is part of such a loss. With more samples in a batch there are more negatives, and the hardest of them
are harder. The loss rises with the batch size although the model is the same. That is no mistake in training, but a
number that is printed as "the loss" cannot be compared between batch sizes.

## How large it is

InfoNCE of random embeddings is log b: 2.8 with batches of 16, 4.9 with 128. For good embeddings it was 0.014 with 16,
0.058 with 64 and 0.114 with 128: eight times as much, with nothing changed but the batch size.

## Example

```py
import torch
import torch.nn.functional as F


def info_nce(a, b):
    scores = a @ b.T / 0.1
    return F.cross_entropy(scores, torch.arange(len(a)))


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += info_nce(model(x), model(y)).item()
    return total / len(loader)
```

Instead, report something that does not depend on the other samples of the batch, or compare with a fixed set of
candidates:

```py
def evaluate(model, loader, candidates, labels):
    found, n = 0, 0
    for x, y in loader:
        nearest = (model(x) @ candidates.T).argmax(1)
        found += (labels[nearest] == y).sum().item()
        n += len(y)
    return found / n
```

## Fix

None: what should be reported instead is another quantity.
""",
    site=coupled,
)

RULES = (BP101, BP102, BP103)
