"""The page of well-known metrics. Every figure on it is measured, on the data that are made here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch.nn import functional as F

import batchproof
from batchproof.explanation import Explanation

BATCHES = SMALL, LARGE = 16, 128
#: Whole batches of both sizes: what is off is not the short last batch's doing.
SAMPLES = 4096
IMAGES = 1024
#: Sums in another order differ by rounding.
SAME = 1e-5
CLASS_WEIGHTS = torch.tensor([1.0, 1.0, 2.0, 4.0, 8.0])
Metric = Callable[..., torch.Tensor]
Data = tuple[torch.Tensor, ...]


# The data, each with what the page says of it.


def regression() -> Data:
    """4,096 normal values, and predictions that correlate with them by 0.8."""
    real = torch.randn(SAMPLES)
    return 0.8 * real + 0.6 * torch.randn(SAMPLES), real


def demand() -> Data:
    """4,096 positive values, lognormal, and predictions that are off by 30% or so."""
    real = torch.randn(SAMPLES).exp()
    return real * (0.3 * torch.randn(SAMPLES)).exp(), real


def binary() -> Data:
    """4,096 scores and labels, 30% of them positive."""
    labels = (torch.rand(SAMPLES) < 0.3).long()
    return (1.5 * labels - 1 + torch.randn(SAMPLES)).sigmoid(), labels


def classes() -> Data:
    """4,096 rows of logits for five classes, from 40% of the labels down to 5%."""
    labels = torch.multinomial(torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05]), SAMPLES, replacement=True)
    return torch.randn(SAMPLES, 5) + 2 * F.one_hot(labels, 5), labels


def tokens() -> Data:
    """4,096 sequences of 1 to 24 tokens of a vocabulary of 10, padded with -100; the longer, the easier to predict."""
    lengths = torch.randint(1, 25, (SAMPLES, 1))
    labels = torch.randint(0, 10, (SAMPLES, 24)).masked_fill(torch.arange(24) >= lengths, -100)
    sure = lengths[..., None] / 8
    return torch.randn(SAMPLES, 24, 10) + sure * F.one_hot(labels.clamp(min=0), 10), labels


def images() -> Data:
    """1,024 grey images of 24 × 24 pixels between 0 and 1, each with its own contrast and noise (0.02 to 0.2)."""
    real = torch.rand(IMAGES, 1, 1, 1) * F.interpolate(torch.rand(IMAGES, 1, 6, 6), scale_factor=4.0, mode="bilinear")
    noise = 0.02 * 10 ** torch.rand(IMAGES, 1, 1, 1)
    return (real + noise * torch.randn_like(real)).clamp(0, 1), real


def masks() -> Data:
    """1,024 masks of 24 × 24 pixels, a disc of radius 1 to 10 in each, and their predicted probabilities."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    radius = 1 + 9 * torch.rand(IMAGES, 1, 1)
    real = ((x - 12) ** 2 + (y - 12) ** 2 < radius**2).float()
    return (3 * (2 * real - 1) + 2 * torch.randn_like(real)).sigmoid(), real


def pairs() -> Data:
    """1,024 pairs of embeddings, 32 numbers each."""
    a = torch.randn(IMAGES, 32)
    return a, a + torch.randn(IMAGES, 32)


def translations() -> Data:
    """4,096 sentences: matching n-grams (n = 1 to 4), all n-grams, and the lengths of sentence and reference."""
    length = torch.randint(5, 40, (SAMPLES, 1)).float()
    total = length - torch.arange(4.0)
    matching = (total * torch.tensor([0.7, 0.5, 0.35, 0.25]) * torch.rand(SAMPLES, 1) * 1.4).round().clamp(max=total)
    return matching, total, length[:, 0], (length[:, 0] * (0.9 + 0.25 * torch.rand(SAMPLES))).round()


# The metrics, as they are often written.


def mse(pred, real):
    return (pred - real).square().mean()


def mae(pred, real):
    return (pred - real).abs().mean()


def log_cosh(pred, real):
    return torch.log(torch.cosh(pred - real)).mean()


def rmse(pred, real):
    return torch.sqrt((pred - real).square().mean())


def r2(pred, real):
    return 1 - (pred - real).square().sum() / (real - real.mean()).square().sum()


def pearson(pred, real):
    return torch.corrcoef(torch.stack([pred, real]))[0, 1]


def mape(pred, real):
    return ((pred - real).abs() / real).mean()


def wape(pred, real):
    return (pred - real).abs().sum() / real.sum()


def rmsle(pred, real):
    return (pred.log1p() - real.log1p()).square().mean().sqrt()


def accuracy(logits, labels):
    return (logits.argmax(1) == labels).float().mean()


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels)


def weighted_cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, weight=CLASS_WEIGHTS)


def balanced_accuracy(logits, labels):
    truth = F.one_hot(labels, 5).double()
    hits = truth * F.one_hot(logits.argmax(1), 5)
    return (hits.sum(0) / truth.sum(0).clamp(min=1)).mean()


def f1_micro(logits, labels):
    truth, guess = F.one_hot(labels, 5).double(), F.one_hot(logits.argmax(1), 5).double()
    return 2 * (truth * guess).sum() / (truth.sum() + guess.sum())


def f1_macro(logits, labels):
    truth, guess = F.one_hot(labels, 5).double(), F.one_hot(logits.argmax(1), 5).double()
    return (2 * (truth * guess).sum(0) / (truth.sum(0) + guess.sum(0)).clamp(min=1)).mean()


def cohen_kappa(logits, labels):
    truth, guess = F.one_hot(labels, 5).double(), F.one_hot(logits.argmax(1), 5).double()
    agreed = (truth * guess).sum(1).mean()
    by_chance = (truth.mean(0) * guess.mean(0)).sum()
    return (agreed - by_chance) / (1 - by_chance)


def f1(scores, labels):
    guess = (scores > 0.5).double()
    return 2 * (guess * labels).sum() / (guess.sum() + labels.sum()).clamp(min=1)


def precision(scores, labels):
    guess = (scores > 0.5).double()
    return (guess * labels).sum() / guess.sum().clamp(min=1)


def mcc(scores, labels):
    guess, truth = (scores > 0.5).double(), labels.double()
    covariance = (guess * truth).mean() - guess.mean() * truth.mean()
    spread = guess.mean() * (1 - guess.mean()) * truth.mean() * (1 - truth.mean())
    return covariance / spread.clamp(min=1e-12).sqrt()


def auc(scores, labels):
    order = scores.argsort()
    ranks = torch.empty_like(scores, dtype=torch.double)
    ranks[order] = torch.arange(1, len(scores) + 1, dtype=torch.double)
    positive, negative = labels.sum().double(), (1 - labels).sum().double()
    above = (ranks * labels).sum() - positive * (positive + 1) / 2
    return above / (positive * negative).clamp(min=1)


def token_mean(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


def perplexity(logits, labels):
    return torch.exp(F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100))


def sentence_mean(logits, labels):
    losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="none")
    return (losses.sum(1) / (labels != -100).sum(1)).mean()


def bleu(matching, total, length, reference):
    precision = (matching.sum(0) / total.sum(0)).log().mean().exp()
    return precision * torch.exp(1 - reference.sum() / length.sum()).clamp(max=1)


def psnr(pred, real):
    return 10 * torch.log10(1 / (pred - real).square().mean())


def psnr_per_image(pred, real):
    return (10 * torch.log10(1 / (pred - real).square().mean((1, 2, 3)))).mean()


def ssim(pred, real, peak=1.0):
    def blurred(image):
        return F.avg_pool2d(image, 7, stride=1)

    mean_p, mean_r = blurred(pred), blurred(real)
    var_p, var_r = blurred(pred**2) - mean_p**2, blurred(real**2) - mean_r**2
    both = blurred(pred * real) - mean_p * mean_r
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    return ((2 * mean_p * mean_r + c1) * (2 * both + c2) / ((mean_p**2 + mean_r**2 + c1) * (var_p + var_r + c2))).mean()


def ssim_own_range(pred, real):
    return ssim(pred, real, peak=real.max() - real.min())


def dice(pred, real):
    return 2 * (pred * real).sum() / (pred.sum() + real.sum())


def dice_per_image(pred, real):
    return (2 * (pred * real).sum((1, 2)) / (pred.sum((1, 2)) + real.sum((1, 2)))).mean()


def iou(pred, real):
    guess = (pred > 0.5).double()
    both = (guess * real).sum()
    return both / (guess.sum() + real.sum() - both)


def info_nce(a, b):
    similarity = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / 0.2
    return F.cross_entropy(similarity, torch.arange(len(a)))


@dataclass(frozen=True)
class Entry:
    """A metric of the page: its name there, what makes it what it is, and what else there is to say."""

    metric: Metric
    name: str
    why: str
    note: str = ""


GALLERY: dict[Callable[[], Data], tuple[str, list[Entry]]] = {
    regression: (
        "Regression",
        [
            Entry(mse, "MSE", "each sample counts the same"),
            Entry(mae, "MAE", "each sample counts the same"),
            Entry(log_cosh, "log-cosh", "each sample counts the same"),
            Entry(rmse, "RMSE", "a root of each batch"),
            Entry(r2, "R-squared", "each batch is held against its own mean"),
            Entry(pearson, "Pearson's r", "each batch is centred on its own means"),
        ],
    ),
    demand: (
        "Positive values",
        [
            Entry(mape, "MAPE", "each sample counts the same"),
            Entry(wape, "WAPE", "each batch is divided by its own sum"),
            Entry(rmsle, "RMSLE", "a root of each batch"),
        ],
    ),
    classes: (
        "Several classes",
        [
            Entry(accuracy, "Accuracy", "each sample counts the same"),
            Entry(cross_entropy, "Cross entropy", "each sample counts the same"),
            Entry(
                weighted_cross_entropy,
                "Cross entropy, class weights",
                "each batch is divided by the weights of its own labels",
                "The same holds for the gradient: [`accumulate`](accumulate.md) divides once, by the weights of all.",
            ),
            Entry(balanced_accuracy, "Balanced accuracy", "each class is divided by its count in the batch"),
            Entry(f1_micro, "F1, micro", "with one label for each sample it is the accuracy"),
            Entry(f1_macro, "F1, macro", "each class is divided by its count in the batch; some are absent"),
            Entry(cohen_kappa, "Cohen's kappa", "chance is reckoned from each batch's own counts"),
        ],
    ),
    binary: (
        "Two classes",
        [
            Entry(f1, "F1", "each batch is divided by its own positives"),
            Entry(precision, "Precision", "each batch is divided by its own positives"),
            Entry(mcc, "Matthews' correlation", "each batch is divided by its own spread"),
            Entry(
                auc,
                "AUC",
                "samples are ranked within their batch only",
                'Ranks need all samples together. `batchproof.exact(auc, state="constant")` refuses it.',
            ),
        ],
    ),
    tokens: (
        "Sequences of tokens",
        [
            Entry(
                token_mean,
                "Cross entropy, `ignore_index`",
                "each batch is divided by its own number of tokens",
                "The same holds for the gradient: [`accumulate`](accumulate.md) divides once, by all tokens.",
            ),
            Entry(perplexity, "Perplexity", "the exponential of each batch's own mean"),
            Entry(
                sentence_mean,
                "Cross entropy, mean over sentences",
                "each sentence counts the same",
                "It is another quantity than the mean over tokens.",
            ),
        ],
    ),
    translations: (
        "Counts of a corpus",
        [Entry(bleu, "BLEU", "precisions and the brevity penalty of each batch alone")],
    ),
    images: (
        "Images",
        [
            Entry(psnr, "PSNR", "the logarithm of each batch's own error"),
            Entry(
                psnr_per_image,
                "PSNR, mean over images",
                "each image counts the same",
                "It is another quantity than the PSNR of all pixels. Papers mostly report this one.",
            ),
            Entry(ssim, "SSIM", "each image counts the same"),
            Entry(
                ssim_own_range,
                "SSIM, range of the batch",
                "the range is that of the batch's own pixels",
                "Name the range instead: `peak=1.0`.",
            ),
        ],
    ),
    masks: (
        "Masks",
        [
            Entry(
                dice,
                "Dice, soft, over a batch",
                "each batch is divided by its own area",
                "As a loss, [`accumulate`](accumulate.md) gives its gradient over all micro-batches.",
            ),
            Entry(
                dice_per_image,
                "Dice, mean over images",
                "each image counts the same",
                "It is another quantity than Dice over all pixels: small masks count as much as large ones.",
            ),
            Entry(iou, "IoU", "each batch is divided by its own area"),
        ],
    ),
    pairs: (
        "Pairs",
        [
            Entry(
                info_nce,
                "InfoNCE",
                "each sample is compared with those of its batch only",
                "With all samples as negatives it is another task. Compare runs at one batch size, `drop_last=True`.",
            )
        ],
    ),
}
OPENING = f"""# Well-known metrics

Is a metric the average of its batches? Where it is not, the number that a loop prints depends on the batch size.
Here are common ones, as they are often written. Each is averaged over batches of {SMALL} and of {LARGE} samples, and
[`explain`](explain.md) gives the verdict. How far a number is off is a matter of the data, which is stated with it.
On your own predictions:

```sh
batchproof explain metrics.py:rmse --data predictions.csv
```

Where the answer is no, `batchproof.exact` makes the metric exact, in the same loop:

```python
import torch
from torch.nn import functional as F

import batchproof


def rmse(pred, real):
    return torch.sqrt((pred - real).square().mean())


metric = batchproof.exact(rmse)
for pred, real in zip(torch.randn(1000).split(16), torch.randn(1000).split(16)):
    metric(pred, real)  # this batch's value, as before
print(metric.compute())  # the value on all samples
```

All batches here are whole. A short last batch counts too much in *every* plain average: weight each batch by its size
where the answer below is yes, and use `exact` where it is no.

| metric | average of its batches? | off at {SMALL} | off at {LARGE} | exact in |
| --- | --- | --- | --- | --- |"""


@dataclass(frozen=True)
class Measured:
    """A metric on its data."""

    found: Explanation
    exact: float
    averages: dict[int, float]

    def off(self, size: int) -> float:
        """How far the average over batches is from the value on all samples, as a share of that."""
        return (self.averages[size] - self.exact) / self.exact


def page() -> str:
    """The page: a table of all, then each with its code."""
    parts = [OPENING]
    parts += [row(data, entry) for data, (_, entries) in GALLERY.items() for entry in entries]
    for data, (title, entries) in GALLERY.items():
        parts.append(f"\n## {title}\n\n{inspect.getdoc(data)}")
        parts += [f"\n{section(data, entry)}" for entry in entries]
    return "\n".join(parts) + "\n"


@cache
def measure(data: Callable[[], Data], metric: Metric) -> Measured:
    """The verdict, which a part of the samples is enough for, and the averages over all batches."""
    inputs = samples(data)
    averages = {size: float(torch.stack([metric(*one) for one in batches(inputs, size)]).mean()) for size in BATCHES}
    found = batchproof.explain(metric, *(one[: 4 * LARGE] for one in inputs), batch_sizes=BATCHES)
    return Measured(found, float(metric(*inputs)), averages)


@cache
def samples(data: Callable[[], Data]) -> Data:
    """The same each time, whatever was drawn before."""
    torch.manual_seed(0)
    return data()


def batches(inputs: Data, size: int) -> Iterator[Data]:
    """The samples, a batch after the other."""
    return zip(*(one.split(size) for one in inputs), strict=True)


def row(data: Callable[[], Data], entry: Entry) -> str:
    """A line of the table."""
    measured = measure(data, entry.metric)
    cells = [f"[{entry.name}](#{_anchor(entry.name)})", "yes" if measured.found.is_safe else "**no**"]
    cells += ["" if abs(off) < SAME else _percent(off) for off in map(measured.off, BATCHES)]
    return f"| {' | '.join([*cells, _state(measured.found)])} |"


def _percent(off: float) -> str:
    return f"{off:+.1%}" if abs(off) >= 0.001 else f"{off:+.2%}"


def _state(found: Explanation) -> str:
    keep = found.keep
    assert keep is not None
    return f"{keep.row_nbytes:,} bytes a sample" if keep.row_nbytes else f"{keep.nbytes} bytes"


def section(data: Callable[[], Data], entry: Entry) -> str:
    """A metric's code, the answer, and what to do."""
    measured = measure(data, entry.metric)
    code = inspect.getsource(entry.metric).strip()
    if entry.metric is weighted_cross_entropy:
        code = f"CLASS_WEIGHTS = torch.tensor({CLASS_WEIGHTS.tolist()})\n\n\n{code}"
    parts = [f"**Yes**: {entry.why}."]
    if not measured.found.is_safe:
        parts = [
            f"**No**: {measured.exact:#.4g} on all samples, {_averaged(measured, SMALL)} over batches of {SMALL},",
            f"{_averaged(measured, LARGE)} over batches of {LARGE}:",
            f"{entry.why} ([`{measured.found.verdict}`](report.md#verdicts)).",
            f"`metric = batchproof.exact({entry.metric.__name__})` keeps {_state(measured.found)}.",
        ]
    return f"### {entry.name}\n\n```python\n{code}\n```\n\n{' '.join([*parts, entry.note]).strip()}"


def _averaged(measured: Measured, size: int) -> str:
    off = measured.off(size)
    return f"{measured.averages[size]:#.4g} ({_percent(abs(off)).lstrip('+')} too {'low' if off < 0 else 'high'})"


def _anchor(name: str) -> str:
    """As GitHub and the built pages name a heading."""
    return "".join(part for part in name.lower().replace(" ", "-") if part.isalnum() or part in "-_")


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(page(), end="")
