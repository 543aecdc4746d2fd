"""``python -m bench.audit``: which metric classes of torchmetrics, torcheval and ignite depend on batching.

Each is made with its usual arguments and put to `batchproof.explain` with samples of the kind that it takes. The table
in docs/metric-classes.md is what this prints with ``--markdown``.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
import torchmetrics.classification
from torch import Tensor

import batchproof

N, CLASSES, LABELS = 96, 5, 4
WORDS = "the a small large dog cat house tree runs sleeps quickly under over red green".split()

Samples = tuple[Any, ...]


def _rand(*shape: int) -> Tensor:
    return torch.rand(N, *shape)


def numbers() -> Samples:
    real = torch.randn(N)
    return real + 0.5 * torch.randn(N), real


def positive() -> Samples:
    return _rand() + 0.1, _rand() + 0.1


def vectors() -> Samples:
    real = torch.randn(N, 4)
    return real + 0.5 * torch.randn(N, 4), real


def distributions() -> Samples:
    return torch.softmax(torch.randn(N, 6), 1), torch.softmax(torch.randn(N, 6), 1)


def ensemble() -> Samples:
    return torch.randn(N, 7), torch.randn(N)


def binary() -> Samples:
    return _rand(), torch.randint(2, (N,))


def groups() -> Samples:
    return _rand(), torch.randint(2, (N,)), torch.randint(2, (N,))


def classes() -> Samples:
    return torch.softmax(torch.randn(N, CLASSES), 1), torch.randint(CLASSES, (N,))


def said_classes() -> Samples:
    return torch.randint(CLASSES, (N,)), torch.randint(CLASSES, (N,))


def class_places() -> Samples:
    return torch.randint(CLASSES, (N, 6)), torch.randint(CLASSES, (N, 6))


def labels() -> Samples:
    return _rand(LABELS), torch.randint(2, (N, LABELS))


def clusters() -> Samples:
    real = torch.randint(CLASSES, (N,))
    return torch.where(_rand() < 0.7, real, torch.randint(CLASSES, (N,))), real


def points() -> Samples:
    labelled = torch.randint(3, (N,))
    return torch.randn(N, 4) + 3 * labelled[:, None], labelled


def ratings() -> Samples:
    return (torch.nn.functional.one_hot(torch.randint(3, (N, 6)), 3).sum(1),)


def ranked() -> Samples:
    return _rand(), torch.randint(2, (N,)), torch.arange(N) % 12


def candidates() -> Samples:
    return _rand(8), torch.randint(8, (N,))


def tokens() -> Samples:
    return torch.randn(N, 6, 11), torch.randint(11, (N, 6))


def images() -> Samples:
    real = _rand(3, 32, 32)
    return (real + 0.1 * torch.randn(N, 3, 32, 32)).clamp(0, 1), real


def one_image() -> Samples:
    return (_rand(3, 16, 16),)


def masks() -> Samples:
    return torch.randint(2, (N, 3, 8, 8)), torch.randint(2, (N, 3, 8, 8))


def panoptic() -> Samples:
    kind = torch.randint(3, (N, 6, 6))
    return tuple(torch.stack([kind, torch.randint(2, (N, 6, 6))], -1) for _ in range(2))


def sounds() -> Samples:
    real = torch.randn(N, 200)
    return real + 0.3 * torch.randn(N, 200), real


def sources() -> Samples:
    real = torch.randn(N, 2, 200)
    return real + 0.3 * torch.randn(N, 2, 200), real


def spectra() -> Samples:
    real = torch.randn(N, 9, 12, 2)
    return real + 0.3 * torch.randn(N, 9, 12, 2), real


def shapes() -> Samples:
    return _rand(6, 2), _rand(6, 2)


def sentences() -> Samples:
    real = [_sentence() for _ in range(N)]
    return [_retold(text) for text in real], real


def with_references() -> Samples:
    said, real = sentences()
    return said, [[text] for text in real]


def in_words() -> Samples:
    said, real = sentences()
    return [text.split() for text in said], [[text.split()] for text in real]


def one() -> Samples:
    return (torch.randn(N),)


def column() -> Samples:
    return (_rand(1),)


def soft_binary() -> Samples:
    return _rand(), torch.randint(2, (N,)).float()


def tokens_last() -> Samples:
    return torch.randn(N, 11, 6), torch.randint(11, (N, 6))


def _sentence() -> str:
    return " ".join(WORDS[int(k)] for k in torch.randint(len(WORDS), (int(torch.randint(4, 9, ())),)))


def _retold(text: str) -> str:
    return " ".join(
        word if float(torch.rand(())) < 0.8 else WORDS[int(torch.randint(len(WORDS), ()))] for word in text.split()
    )


_MANY: dict[str, Any] = {"num_classes": CLASSES}
_MACRO: dict[str, Any] = {"average": "macro", **_MANY}

#: Where classes are, the samples that they take, their names, and what they are made with.
CLASSES_AUDITED: tuple[tuple[str, Callable[[], Samples], str, dict[str, Any]], ...] = (
    ("torchmetrics.classification", groups, "BinaryFairness BinaryGroupStatRates", {"num_groups": 2}),
    (
        "torchmetrics.regression",
        numbers,
        """ConcordanceCorrCoef ExplainedVariance KendallRankCorrCoef LogCoshError MeanAbsoluteError
        MeanAbsolutePercentageError MeanSquaredError NormalizedRootMeanSquaredError PearsonCorrCoef R2Score
        RelativeSquaredError SpearmanCorrCoef SymmetricMeanAbsolutePercentageError
        WeightedMeanAbsolutePercentageError""",
        {},
    ),
    ("torchmetrics.regression", positive, "MeanSquaredLogError TweedieDevianceScore", {}),
    ("torchmetrics.regression", distributions, "JensenShannonDivergence KLDivergence", {}),
    ("torchmetrics.regression", ensemble, "ContinuousRankedProbabilityScore", {}),
    ("torchmetrics.regression", vectors, "CosineSimilarity", {}),
    ("torchmetrics.regression", numbers, "CriticalSuccessIndex", {"threshold": 0.5}),
    ("torchmetrics.regression", numbers, "MinkowskiDistance", {"p": 3}),
    (
        "torchmetrics.clustering",
        clusters,
        """AdjustedMutualInfoScore AdjustedRandScore CompletenessScore FowlkesMallowsIndex HomogeneityScore
        MutualInfoScore NormalizedMutualInfoScore RandScore VMeasureScore""",
        {},
    ),
    ("torchmetrics.clustering", points, "CalinskiHarabaszScore DaviesBouldinScore DunnIndex", {}),
    ("torchmetrics.nominal", clusters, "CramersV PearsonsContingencyCoefficient TheilsU TschuprowsT", _MANY),
    ("torchmetrics.nominal", ratings, "FleissKappa", {}),
    (
        "torchmetrics.retrieval",
        ranked,
        """RetrievalAUROC RetrievalFallOut RetrievalHitRate RetrievalMAP RetrievalMRR RetrievalNormalizedDCG
        RetrievalPrecision RetrievalPrecisionRecallCurve RetrievalRPrecision RetrievalRecall
        RetrievalRecallAtFixedPrecision""",
        {},
    ),
    ("torchmetrics.text", with_references, "BLEUScore CHRFScore SacreBLEUScore TranslationEditRate", {}),
    (
        "torchmetrics.text",
        sentences,
        """CharErrorRate EditDistance ExtendedEditDistance MatchErrorRate WordErrorRate WordInfoLost
        WordInfoPreserved""",
        {},
    ),
    ("torchmetrics.text", tokens, "Perplexity", {}),
    ("torchmetrics.audio", spectra, "ComplexScaleInvariantSignalNoiseRatio", {}),
    (
        "torchmetrics.audio",
        sounds,
        "ScaleInvariantSignalDistortionRatio ScaleInvariantSignalNoiseRatio SignalNoiseRatio",
        {},
    ),
    ("torchmetrics.audio", sounds, "SignalDistortionRatio", {"filter_length": 16}),
    ("torchmetrics.audio", sources, "SourceAggregatedSignalDistortionRatio", {}),
    ("torchmetrics.image", images, "PeakSignalNoiseRatio StructuralSimilarityIndexMeasure", {"data_range": 1.0}),
    (
        "torchmetrics.image",
        images,
        """ErrorRelativeGlobalDimensionlessSynthesis RelativeAverageSpectralError RootMeanSquaredErrorUsingSlidingWindow
        SpatialCorrelationCoefficient SpectralAngleMapper SpectralDistortionIndex UniversalImageQualityIndex""",
        {},
    ),
    ("torchmetrics.image", one_image, "TotalVariation", {}),
    ("torchmetrics.detection", panoptic, "PanopticQuality ModifiedPanopticQuality", {"things": {0, 1}, "stuffs": {2}}),
    (
        "torchmetrics.segmentation",
        masks,
        "DiceScore GeneralizedDiceScore HausdorffDistance MeanIoU",
        {"num_classes": 3},
    ),
    ("torchmetrics.shape", shapes, "ProcrustesDisparity", {}),
    ("torchmetrics", one, "MeanMetric SumMetric MaxMetric MinMetric CatMetric RunningMean RunningSum", {}),
    (
        "torcheval.metrics",
        binary,
        """BinaryAccuracy BinaryAUPRC BinaryAUROC BinaryBinnedAUROC BinaryConfusionMatrix BinaryF1Score
        BinaryPrecision BinaryPrecisionRecallCurve BinaryRecall""",
        {},
    ),
    ("torcheval.metrics", soft_binary, "BinaryNormalizedEntropy", {}),
    ("torcheval.metrics", one, "Mean Sum Max Min Cat", {}),
    ("torcheval.metrics", numbers, "MeanSquaredError R2Score", {}),
    ("torcheval.metrics", positive, "AUC", {}),
    ("torcheval.metrics", classes, "MulticlassAUPRC MulticlassAUROC MulticlassConfusionMatrix", _MANY),
    ("torcheval.metrics", classes, "MulticlassAccuracy MulticlassF1Score MulticlassPrecision MulticlassRecall", _MACRO),
    ("torcheval.metrics", labels, "MultilabelAccuracy", {}),
    ("torcheval.metrics", labels, "MultilabelAUPRC", {"num_labels": LABELS}),
    ("torcheval.metrics", labels, "TopKMultilabelAccuracy", {"k": 2}),
    ("torcheval.metrics", candidates, "HitRate ReciprocalRank", {}),
    ("torcheval.metrics", images, "PeakSignalNoiseRatio", {}),
    ("torcheval.metrics", tokens, "Perplexity", {}),
    ("torcheval.metrics", with_references, "BLEUScore", {"n_gram": 2}),
    ("torcheval.metrics", sentences, "WordErrorRate WordInformationPreserved WordInformationLost", {}),
    ("ignite.metrics", binary, "AveragePrecision ROC_AUC", {}),
    ("ignite.metrics", classes, "Accuracy Entropy MutualInformation", {}),
    ("ignite.metrics", classes, "ConfusionMatrix", _MANY),
    ("ignite.metrics", classes, "Precision Recall", {"average": True}),
    ("ignite.metrics", classes, "TopKCategoricalAccuracy", {"k": 2}),
    ("ignite.metrics", said_classes, "CohenKappa MatthewsCorrCoef", {}),
    ("ignite.metrics", distributions, "JSDivergence KLDivergence", {}),
    ("ignite.metrics", numbers, "MeanAbsoluteError MeanSquaredError RootMeanSquaredError", {}),
    ("ignite.metrics", numbers, "Loss", {"loss_fn": torch.nn.functional.mse_loss}),
    ("ignite.metrics", vectors, "CosineSimilarity HSIC MaximumMeanDiscrepancy MeanPairwiseDistance", {}),
    ("ignite.metrics", tokens_last, "Perplexity", {}),
    ("ignite.metrics", images, "PSNR SSIM", {"data_range": 1.0}),
    ("ignite.metrics", in_words, "Bleu", {}),
    ("ignite.metrics", column, "Average GeometricAverage", {}),
)


@dataclass(frozen=True)
class Audited:
    """A metric class, how it is made, and the samples that it takes."""

    module: str
    name: str
    samples: Callable[[], Samples]
    arguments: dict[str, Any]

    def make(self) -> Any:
        return getattr(import_module(self.module), self.name)(**self.arguments)


def audited() -> Iterator[Audited]:
    """All classes that can be made here without downloading anything."""
    yield from _classification()
    for module, samples, names, arguments in CLASSES_AUDITED:
        for name in names.split():
            yield Audited(module, name, samples, arguments)


def _classification() -> Iterator[Audited]:
    """torchmetrics has each for two classes, for many, and for several labels."""
    fixed = {
        "SpecificityAtSensitivity": {"min_sensitivity": 0.5},
        "RecallAtFixedPrecision": {"min_precision": 0.5},
        "PrecisionAtFixedRecall": {"min_recall": 0.5},
        "SensitivityAtSpecificity": {"min_specificity": 0.5},
        "FBetaScore": {"beta": 2.0},
    }
    tasks = (
        ("Binary", binary, {}),
        ("Multiclass", classes, _MANY),
        ("Multilabel", labels, {"num_labels": LABELS}),
    )
    for task, samples, arguments in tasks:
        for name in torchmetrics.classification.__all__:
            if name.startswith(task) and name not in ("BinaryFairness", "BinaryGroupStatRates"):
                own = {**arguments, **fixed.get(name.removeprefix(task), {})}
                yield Audited("torchmetrics.classification", name, samples, own)


@dataclass(frozen=True)
class Verdict:
    """What `explain` says of a metric class."""

    module: str
    name: str
    safe: bool | None
    verdict: str
    headline: str


def audit(case: Audited) -> Verdict:
    """Put one class to `explain`; an error is its verdict where it cannot be made or scored."""
    torch.manual_seed(0)
    try:
        found = batchproof.explain(case.make(), *case.samples())
    except Exception as error:  # noqa: BLE001 - a row of the table
        return Verdict(case.module, case.name, None, "error", f"{type(error).__name__}: {error}".splitlines()[0])
    return Verdict(case.module, case.name, found.is_safe, str(found.verdict), found.headline)


def markdown(found: Sequence[Verdict]) -> Iterator[str]:
    """The tables of docs/metric-classes.md: what depends on batching, then what does not, by module."""
    yield "| class | what `explain` says |"
    yield "|---|---|"
    for one in found:
        if one.safe is not True:
            yield f"| `{one.module}.{one.name}` | {one.headline} |"
    yield ""
    yield "| module | does not depend on batching |"
    yield "|---|---|"
    for module in dict.fromkeys(one.module for one in found):
        names = [f"`{one.name}`" for one in found if one.module == module and one.safe is True]
        yield f"| `{module}`, {len(names)} | {', '.join(names)} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__)
    parser.add_argument("names", nargs="*", help="words of names; all classes without")
    parser.add_argument("--markdown", action="store_true", help="print the tables of the docs")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = []
    for case in audited():
        if options.names and not any(word in case.name for word in options.names):
            continue
        found.append(audit(case))
        if not options.markdown:
            print(f"{found[-1].module:27} {found[-1].name:45} {found[-1].verdict:12} {found[-1].headline}", flush=True)
    if options.markdown:
        print("\n".join(markdown(found)))
    counts = Counter(one.verdict for one in found)
    closing = " · ".join(f"{verdict} {count}" for verdict, count in counts.most_common())
    print(f"audit: {len(found)} classes · {closing}", file=sys.stderr if options.markdown else sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
