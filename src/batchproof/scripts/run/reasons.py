"""Why a printed number is not the exact one: what the numbers of a run tell, and what the source does."""

from __future__ import annotations

import math

from batchproof.scripts.run.epochs import Pass
from batchproof.scripts.run.result import TOLERANCE, Epoch
from batchproof.scripts.source import AverageSite, Divisor, Quantity, Weight

_REMEDIES = {
    Quantity.NONLINEAR: "compute it once, on all samples together, as batchproof.exact does",
    Quantity.RATIO: "add up numerators and denominators over the batches, and divide once",
    Quantity.COUPLED: "no averaging mends it: keep the batch size fixed, and report it with the number",
}


def reason(done: Pass, epoch: Epoch, is_sum: bool | None) -> tuple[str, str]:
    """What happens and what to do, each as half a sentence; empty where nothing is wrong or nothing tells."""
    averaged, printed = epoch.averaged, epoch.printed
    if averaged is None or printed is None or epoch.is_exact is not False:
        return "", ""
    site = done.place.site
    if done.batches is not None and done.batches.formula.broadcasts:
        shapes = done.batches.formula.broadcasts
        return f"{shapes} meet, so that every sample is compared with every other", "squeeze(1) one of them"
    if not _same(averaged, printed):
        return _of_divisor(done, epoch, is_sum)
    if not is_sum and _same(epoch.weighted, epoch.exact) and not _same(epoch.weighted, averaged):
        return _of_sizes(site, epoch)
    return site.added.why, _REMEDIES.get(site.added.quantity, "")


def _of_sizes(site: AverageSite, epoch: Epoch) -> tuple[str, str]:
    """The batches are right, and their weights are not."""
    short = len(epoch.sizes) == 2 and epoch.sizes[1][1] == 1
    which = f"the last batch, of {epoch.sizes[1][0]:,}," if short else "each batch, whatever its size,"
    if site.added.weight is Weight.NONE:
        return f"{which} counts as much as any other", "weight each batch by its number of samples"
    return f"{which} is weighted by something else than its number of samples", "weight it by how many samples it has"


def _of_divisor(done: Pass, epoch: Epoch, is_sum: bool | None) -> tuple[str, str]:
    """What was added is not divided by what was added up."""
    assert epoch.printed is not None
    assert epoch.averaged is not None
    if is_sum:
        return "sums over samples are not divided by how many samples there are", "divide by the number of samples"
    divisor = epoch.averaged * epoch.batches / epoch.printed if epoch.printed else math.nan
    if done.divisor is Divisor.DATASET or math.isclose(divisor, epoch.samples, rel_tol=1e-5):
        return (
            "means of batches are added up, and divided by the number of samples",
            "weight each batch by its number of samples, or divide by the number of batches",
        )
    if not done.weights and math.isclose(divisor, round(divisor), rel_tol=1e-5) and round(divisor) > 1:
        return (
            f"{epoch.batches:,} batches were added, and the total is divided by {round(divisor):,}",
            "count what is added",
        )
    return f"it is {epoch.printed / epoch.averaged:.4g} times the mean of what was added" if epoch.averaged else "", ""


def _same(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=5 * TOLERANCE)
