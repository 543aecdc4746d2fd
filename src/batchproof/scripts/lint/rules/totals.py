"""BP203, BP204 and BP205: totals that do not fit what they are divided by, so that the batch size is a factor."""

from __future__ import annotations

import ast

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rules.rule import Rule, Verdict, code_of, division, name_of, origin, reported, value_of
from batchproof.scripts.source import Divisor, Quantity, Site, Weight

_PER_SAMPLE: tuple[Divisor, ...] = (Divisor.DATASET, Divisor.SAMPLES)


def over_the_dataset(site: Site) -> Verdict | None:
    """Means of batches, added up and divided by how many samples there are."""
    average = reported(site)
    if average is not None and site.added.twice and site.loop.loader.batch_size != 1:
        return _divided_twice(site)
    if _is_scaled(site):
        return None
    if average is None or _may_be_a_count(site) or not (site.added.quantity is Quantity.MEAN or _reads_as_loss(site)):
        return None
    divisors = _PER_SAMPLE
    if site.added.quantity is Quantity.MEAN and average.divisor_node is not None:  # `np.average` has weighted them
        divisors += (Divisor.WEIGHTS,)
    if site.added.weight is not Weight.NONE or average.divisor not in divisors or site.loop.loader.batch_size == 1:
        return None
    divisor = code_of(average.divisor_node) if average.divisor_node is not None else "the number of samples"
    message = (
        f"{name_of(site)} adds up means of batches and is divided by {divisor}, the number of samples: "
        "it reads too small by a factor of the batch size"
    )
    remedy = "multiply each mean by its number of samples, or divide by the number of batches"
    return Verdict(site.add, message, remedy, division(site, "divided by the number of samples") + origin(site))


def _is_scaled(site: Site) -> bool:
    """Whether it is multiplied by something that may well be how many samples there are."""
    node = site.added.node
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Mult)
        and not (isinstance(node.left, ast.Constant) or isinstance(node.right, ast.Constant))
    )


def _divided_twice(site: Site) -> Verdict:
    message = (
        f"{name_of(site)} adds up {value_of(site)}, a mean over the batch, after it was divided by the batch size again"
    )
    remedy = "leave out that division: the mean has it already"
    return Verdict(site.add, message, remedy, origin(site) + division(site, "averaged here"))


def _reads_as_loss(site: Site) -> bool:
    """Losses that come from elsewhere are means; a metric that comes from elsewhere may well be a count."""
    written = f"{site.name} {ast.unparse(site.added.node)}".lower()
    return site.added.quantity is Quantity.UNKNOWN and "loss" in written


def _may_be_a_count(site: Site) -> bool:
    """An accuracy that comes from elsewhere, called by its name, is mostly how many are right."""
    added = site.added
    named = added.origin is None or added.origin is added.call or added.origin is added.node
    return named and any(word in ast.unparse(added.call or added.node).lower() for word in ("acc", "correct"))


def running_total(site: Site) -> Verdict | None:
    """What has been added up already is added again."""
    if site.added.quantity is not Quantity.RUNNING or reported(site) is None:
        return None
    because = site.added.why or "it runs on over the batches"
    message = (
        f"{name_of(site)} takes in {value_of(site)} in every batch: {because}, so that early batches count many times"
    )
    remedy = "add what this batch contributes, and take the average once after the loop"
    return Verdict(site.add, message, remedy, origin(site) + division(site, "averaged once more here"))


def sums_over_batches(site: Site) -> Verdict | None:
    """Sums over samples, divided by how many batches there are."""
    average = reported(site)
    if average is None or average.divisor is not Divisor.BATCHES or site.loop.loader.batch_size == 1:
        return None
    added = site.added
    weighted = added.quantity is Quantity.MEAN and added.weight in (Weight.SAMPLES, Weight.CONFIGURED)
    if not weighted and (added.quantity not in (Quantity.SUM, Quantity.COUNT) or added.weight is not Weight.NONE):
        return None
    what = "numbers of samples" if added.quantity is Quantity.COUNT else "sums over samples"
    message = f"{name_of(site)} adds up {what} and is divided by the number of batches: it grows with the batch size"
    remedy = "divide by the number of samples, as in len(loader.dataset)"
    return Verdict(site.add, message, remedy, division(site, "divided by the number of batches") + origin(site))


BP203 = Rule(
    "BP203",
    "divided-by-dataset",
    Severity.ERROR,
    "means of batches, added up and divided by the number of samples",
    """\
Finds a loss that is a mean over its batch, added up over the batches and divided by the length of the dataset.

## Why it is bad

The mean has been divided by the number of samples in the batch already. Dividing the sum of means by the number of all
samples divides once more. What is printed is the loss over the batch size.

## How large it is

The factor is the batch size: with batches of 16 the loss reads 16 times too small, with 128 it reads 128 times too
small. Doubling the batch size halves the number, which looks like better training.

## Example

```py
import torch.nn.functional as F


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += F.cross_entropy(model(x), y).item()
    return total / len(loader.dataset)
```

Instead:

```py
import torch.nn.functional as F


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += F.cross_entropy(model(x), y, reduction="sum").item()
    return total / len(loader.dataset)
```

## Fix

Safe, where the batch's size is in sight: each mean is multiplied by its number of samples.
""",
    site=over_the_dataset,
)

BP204 = Rule(
    "BP204",
    "running-totals-added-again",
    Severity.ERROR,
    "a running total or average, added up again in every batch",
    """\
Finds an accumulator that takes in a value which itself runs on over the batches: `total += running / (i + 1)`, or a
list of cumulative totals that is averaged at the end.

## Why it is bad

The first batch is part of every later running value, the last batch of one only. The result is a weighted mean that
favours the start of the epoch, where a training loss is largest.

## How large it is

Over 100 batches the mean of running means gives the first batch 5.2 % of the weight and the last one 0.01 %, instead of
1 % each. For a loss that falls from 2 to 1 in a straight line it reads 1.75 instead of 1.50. Where running totals are
added without a division, the result is larger by half the number of batches.

## Example

```py
import torch.nn.functional as F


def train(model, loader, optimizer):
    running, total = 0.0, 0.0
    for i, (x, y) in enumerate(loader):
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        running += loss.item()
        total += running / (i + 1)
    return total / len(loader)
```

Instead:

```py
import torch.nn.functional as F


def train(model, loader, optimizer):
    total, n = 0.0, 0
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        n += len(y)
    return total / n
```

## Fix

None: which of the two averages is meant is for you to say.
""",
    site=running_total,
)

BP205 = Rule(
    "BP205",
    "sum-over-batches",
    Severity.ERROR,
    "sums over samples, divided by the number of batches",
    """\
Finds a sum over the samples of a batch (`reduction="sum"`, a mean that was multiplied by the batch's size, a number of
correct predictions) that is added up and divided by the number of batches.

## Why it is bad

The result is the loss of an average batch, not of a sample. With twice the batch size a batch holds twice the samples,
and the number doubles.

## How large it is

The factor is the batch size: the same model reads 8 times higher with batches of 128 than with batches of 16.

## Example

```py
import torch.nn.functional as F


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(model(x), y, reduction="sum").item()
    return total / len(loader)
```

Instead:

```py
import torch.nn.functional as F


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(model(x), y, reduction="sum").item()
    return total / len(loader.dataset)
```

## Fix

None yet.
""",
    site=sums_over_batches,
)

RULES = (BP203, BP204, BP205)
