"""BP201 and BP202: means of batches that are weighted by nothing, or by the wrong thing."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rules.rule import Mark, Rule, Verdict, code_of, division, name_of, reported, value_of
from batchproof.scripts.source import Divisor, Quantity, Site, Weight

_MEANS = (Quantity.MEAN, Quantity.UNKNOWN)


def mean_of_means(site: Site) -> Verdict | None:
    """Every batch counts alike, and the last one may be short."""
    average = reported(site)
    if site.added.quantity not in _MEANS or site.added.weight is not Weight.NONE or average is None:
        return None
    if average.divisor is not Divisor.BATCHES or batches_are_equal(site):
        return None
    message = f"{name_of(site)} gives every batch the same weight: a short last batch counts as much as a full one"
    marks = division(site, "divided by the number of batches") + loader(site)
    return Verdict(site.add, message, "weight each batch by its number of samples, and divide by their sum", marks)


def wrong_weight(site: Site) -> Verdict | None:
    """The weight, or the divisor, is not how many samples there are."""
    average = reported(site)
    if average is None:
        return None
    added = site.added
    if added.quantity in _MEANS and added.weight is Weight.OTHER:
        weight = code_of(added.weight_node)
        message = f"{name_of(site)} weights {value_of(site)} by {weight}, which is not how many it averages"
        if added.why:
            message += f": {added.why}"
        remedy = "weight by what the mean divides by, and divide by the sum of these weights"
        return Verdict(site.add, message, remedy, division(site, "divided here"))
    if batches_are_equal(site):
        return None
    if added.quantity in _MEANS and added.weight is Weight.CONFIGURED:
        weight = code_of(added.weight_node)
        message = (
            f"{name_of(site)} weights every batch by {weight}, the batch size that was asked for: the last may be short"
        )
        remedy = "weight by the batch's own size, as in len(y), and divide by the sum of these weights"
        return Verdict(site.add, message, remedy, division(site, "divided here") + loader(site))
    if average.divisor is Divisor.CONFIGURED and added.quantity in (*_MEANS, Quantity.SUM, Quantity.COUNT):
        message = f"{name_of(site)} is divided by {code_of(average.divisor_node)} samples, as if no batch were short"
        remedy = "divide by how many samples were seen, or by len(loader.dataset)"
        return Verdict(site.add, message, remedy, division(site, "too many samples are counted here") + loader(site))
    return None


def batches_are_equal(site: Site) -> bool:
    """Whether the file says that no batch is short; that samples are dropped for it is another rule's."""
    return site.loop.loader.batch_size == 1 or site.loop.loader.drops_last is True


def loader(site: Site) -> tuple[Mark, ...]:
    """Where the loader is built that keeps its last batch."""
    built = site.loop.loader.built
    return (Mark(built, "its last batch may be short"),) if built is not None else ()


BP201 = Rule(
    "BP201",
    "mean-of-batch-means",
    Severity.NOTE,
    "a mean loss, averaged over batches of which the last may be short",
    """\
Finds a plain mean loss that is added up and divided by the number of batches, where nothing says that the batches are
equally large.

## Why it is bad

If the number of samples is no multiple of the batch size, the last batch is short, and its samples count more than the
others. How short it is depends on the batch size, and so does the number.

## How large it is

Mostly small. 1,000 samples in batches of 128 leave 104 over, and each of these counts 1.2 times. Where one sample is
left over it counts 128 times. With few batches it shows: in `why.md` a mean square error reads 0.3845 instead of
0.3863.

## Example

```py
import torch.nn.functional as F


def evaluate(model, loader):
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item()
    return total / len(loader)
```

Instead:

```py
import torch.nn.functional as F


def evaluate(model, loader):
    total, n = 0.0, 0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item() * len(y)
        n += len(y)
    return total / n
```

## Fix

Safe, where the batch's size is in sight: each batch is multiplied by its number of samples, which is counted beside the
total, and the total is divided by the count.
""",
    site=mean_of_means,
)

BP202 = Rule(
    "BP202",
    "wrong-weight",
    Severity.WARNING,
    "batches weighted by the batch size that was asked for, or by a count of something else",
    """\
Finds batch means that are weighted, but by the wrong number: the configured batch size, `len()` of a dict (how many
keys it has), the number of graphs where the loss averages over nodes, the number of sentences where it averages over
tokens. Also a total that is divided by the number of batches times the configured batch size.

## Why it is bad

A weight restores the mean only if it is what the batch's mean was divided by. The configured batch size counts a short
last batch as a full one. The length of a dict is the same for every batch.

## How large it is

With the configured size b, N samples and r of them in the last batch, the divisor is off by b − r: 1,000 samples in
batches of 128 are counted as 1,024, and an accuracy of 100 % reads 97.7 %. Small datasets show it most. With `len()` of
a dict it is a factor: a batch of 32 in a dict of three entries counts as 3.

## Example

```py
import torch.nn.functional as F


def evaluate(model, loader, batch_size):
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item() * batch_size
    return total / len(loader.dataset)
```

Instead:

```py
import torch.nn.functional as F


def evaluate(model, loader, batch_size):
    total = 0.0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item() * len(y)
    return total / len(loader.dataset)
```

## Fix

None yet.
""",
    site=wrong_weight,
)

RULES = (BP201, BP202)
