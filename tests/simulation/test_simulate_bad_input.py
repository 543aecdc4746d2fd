"""Whatever it is given: a table, or one line that says what is wrong. Never a traceback."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
import torchmetrics
import torchmetrics.functional
from torch import Tensor, nn

import batchproof as bp
from batchproof.simulation import Simulation
from simulated import near, run


def rmse(pred: Tensor, real: Tensor) -> Tensor:
    return (pred - real).square().mean().sqrt()


def refused(*args: Any, words: str = "", **options: Any) -> str:
    with pytest.raises(bp.BatchproofError) as caught:
        bp.simulate(*args, **{"batch_sizes": [4], "batches": 5, **options})
    message = str(caught.value)
    assert message.strip() and "\n" not in message.strip(), message
    assert len(message) < 600 and "Traceback" not in message and "C++" not in message
    for word in words.split():
        assert word.lower() in message.lower(), message
    return message


def table_or_line(*args: Any, **options: Any) -> Simulation | None:
    """One or the other, and the table can be shown. What the function itself raises on such data comes as it is."""
    try:
        found = bp.simulate(*args, **{"batch_sizes": [4], "batches": 5, **options})
    except bp.BatchproofError as error:
        assert str(error).strip() and "\n" not in str(error).strip(), str(error)
        return None
    except Exception as error:
        if raises_itself(type(error), *args):
            return None
        raise
    assert str(found) and found.to_dict()
    return found


def raises_itself(kind: type[Exception], fn: Any, errors: Any = "normal") -> bool:
    x = torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = [errors] if isinstance(errors, (tuple, list)) else [(errors,)]
    if fn is None:
        return False
    call = getattr(fn, "update", fn)
    for args in [(x,), (x, x.roll(1)), (x, x > 0), (x, x, x)] if isinstance(errors, str) else given:
        try:
            call(*args)
        except kind:
            return True
        except Exception:  # noqa: BLE001 - another one
            continue
    return False


@pytest.mark.parametrize(
    "size", [0, -1, 1.5, "x", math.nan, math.inf, True, None, [1], 2 + 1j, -(10**40), "16"], ids=repr
)
def test_batch_sizes(size: Any) -> None:
    refused(batch_sizes=[4, size], words="batch size whole number")


@pytest.mark.parametrize(
    "sizes", [[], (), "", "16", 1.5, {}, iter(())], ids=["list", "tuple", "empty", "text", "float", "dict", "iterator"]
)
def test_lists_of_batch_sizes(sizes: Any) -> None:
    refused(batch_sizes=sizes)


def test_good_lists_of_batch_sizes() -> None:
    plain = [row.mean.value for row in run(None, "normal", [2, 5], 25).rows]
    for sizes in ((5, 2), {2, 5}, range(2, 6, 3), np.array([2, 5]), torch.tensor([5, 2]), iter([2, 5, 2]), [2.0, 5.0]):
        assert [row.mean.value for row in run(None, "normal", sizes, 25).rows] == plain
    for size in (2, 2.0, np.int64(2), torch.tensor(2), np.float64(2)):
        assert [row.mean.value for row in run(None, "normal", size, 25).rows] == plain[:1]


@pytest.mark.parametrize(
    "size", [10**18, 10**19, 10**30, 1e300, 10**400], ids=lambda size: f"{size:.0e}"[:6] if size < 1e301 else "400"
)
def test_enormous_batch_sizes(size: Any) -> None:
    for fn in (None, rmse, torch.median):
        table_or_line(fn, batch_sizes=[size])
        table_or_line(fn, "laplace" if fn is torch.median else "normal", batch_sizes=[2, size], batches=2)


def test_enormous_batches_of_what_cannot_be_drawn_at_once() -> None:
    refused(lambda e: e.median(), batch_sizes=[10**12], words="too large")
    refused(lambda e: e.median(), batch_sizes=[4, 10**12])
    refused(lambda e: e.sort().values[0].item(), batch_sizes=[10**10])


@pytest.mark.parametrize("value", [0, -1, 1.5, "x", math.nan, None, True, [3]], ids=repr)
def test_numbers_of_batches(value: Any) -> None:
    refused(batches=value, words="batches whole number")
    if value is not None:
        refused(threads=value, words="threads whole number")


@pytest.mark.parametrize("value", [1.5, "x", None, math.nan, [3]], ids=repr)
def test_seeds(value: Any) -> None:
    refused(seed=value, words="seed whole number")


def test_any_whole_number_is_a_seed() -> None:
    values = {
        run(None, "normal", [3], 25, seed=seed).rows[0].mean.value for seed in (0, -1, 1, 2**64, -(10**40), np.int64(7))
    }
    assert len(values) == 6


@pytest.mark.parametrize(
    "scale",
    [0, -1, math.nan, math.inf, "x", None, 1j, 10**400, [1.0], torch.ones(2), -0.0, ""],
    ids=lambda s: repr(s)[:12],
)
def test_scales(scale: Any) -> None:
    refused(scale=scale, words="scale")


@pytest.mark.parametrize("scale", [1e-300, 5e-324, 1e-30, 1e30, 1e39, 1e160, 1e308])
def test_far_scales(scale: float) -> None:
    """Where squares leave the range of float64 there may be no number, but no wrong one."""
    for direct in (True, False):
        for errors in ("normal", "t:5") if direct else ("normal", "uniform", "lognormal"):
            found = table_or_line(None, errors, scale=scale, direct=direct)
            for row in found.rows if found is not None else ():
                if 1e-100 < scale < 1e100:
                    assert row.mean.expected is not None and near(row.mean, row.mean.expected, deviations=5)


@pytest.mark.parametrize(
    "errors",
    [
        "",
        "norml",
        "foo",
        ":",
        "t:0",
        "t:-1",
        "t:x",
        "t:",
        "t:nan",
        "t:inf",
        "t:3:4",
        "t: ",
        "normal:3",
        "normal:",
        "uniform:1",
        "lognormal:0",
        "lognormal:-1",
        "lognormal:x",
        "lognormal:inf",
        "laplace:2",
        "normal\n",
        "t:1e400",
    ],
    ids=repr,
)
def test_names_of_distributions(errors: str) -> None:
    if errors.strip() == "normal":
        assert run(None, errors, [2], 5).errors.startswith("normal")
    else:
        refused(None, errors)


@pytest.mark.parametrize(
    "errors",
    ["t:1e-3", "t:0.5", "t:1e15", "t:1e300", "lognormal:20", "lognormal:800", "lognormal:1e300", "lognormal:1e-300"],
)
def test_far_parameters(errors: str) -> None:
    for fn in (None, lambda e: e.abs().mean(), torch.var):
        table_or_line(fn, errors, batch_sizes=[4])


def test_names_in_other_spellings() -> None:
    for errors in (" Normal", "GAUSSIAN", "norm"):
        assert run(None, errors, [2], 25).rows == run(None, "normal", [2], 25).rows
    assert run(None, "student-t:5", [2], 25).rows == run(None, "T:5", [2], 25).rows


X = torch.randn(40, generator=torch.Generator().manual_seed(0))
BAD_DATA: dict[str, Any] = {
    "nan": torch.tensor([1.0, math.nan]),
    "inf": torch.tensor([1.0, -math.inf]),
    "empty": torch.tensor([]),
    "no dimension": torch.tensor(3.0),
    "numpy nan": np.array([1.0, math.nan]),
    "numpy text": np.array(["a", "b"]),
    "objects": np.array([None, 1]),
    "list nan": [1.0, math.nan],
    "texts": ["a", "b"],
    "none": None,
    "number": 3.5,
    "dictionary": {"errors": X},
    "set": {1.0, 2.0},
    "generator": (x for x in (1.0, 2.0)),
    "empty list": [],
    "meta": torch.empty(5, device="meta"),
    "list of none": [None, None],
    "bytes": b"abc",
    "ragged": [[1.0], [1.0, 2.0]],
    "unequal": (X, X[:3]),
    "nan in complex": torch.tensor([1.0, complex(math.nan, 0)]),
    "three": (X, X, X),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_errors(case: str) -> None:
    refused(None, BAD_DATA[case])
    table_or_line(lambda e: e.square().mean(), BAD_DATA[case])
    table_or_line(rmse, BAD_DATA[case])
    table_or_line(sklearn.metrics.mean_squared_error, BAD_DATA[case])


ODD_DATA: dict[str, Any] = {
    "ints": torch.arange(9),
    "bools": torch.tensor([True, False, True]),
    "bytes": torch.arange(9, dtype=torch.uint8),
    "half": X.half(),
    "bfloat16": X.bfloat16(),
    "gradient": X.clone().requires_grad_(),
    "parameter": nn.Parameter(X),
    "numpy": X.numpy(),
    "numpy ints": np.arange(9),
    "list": X.tolist(),
    "tuple": tuple(X.tolist()),
    "int list": [1, 2, 3],
    "a view": X[::2],
    "sparse": X.to_sparse(),
    "complex": torch.complex(X, X),
    "one": X[:1],
    "two": X[:2],
    "matrix": X.reshape(10, 4),
    "column": X[:, None],
    "pair": (X, X + 1),
    "lists": [X.tolist(), X.tolist()],
    "numpy32": X.numpy().astype("float32"),
    "big endian": X.numpy().astype(">f8"),
    "read only": np.broadcast_to(1.5, (9,)),
}


@pytest.mark.parametrize("case", ODD_DATA)
def test_odd_errors(case: str) -> None:
    for fn in (None, rmse if case in ("pair", "lists", "list") else lambda e: e.square().mean()):
        table_or_line(fn, ODD_DATA[case], batch_sizes=[500] if fn is None else [3])
    if case in ("numpy", "list", "pair", "lists", "read only"):
        table_or_line(sklearn.metrics.mean_squared_error, ODD_DATA[case], batch_sizes=[2], batches=3)


def test_errors_without_a_function_are_errors_in_any_type() -> None:
    exact = run(None, X.double(), [4], 25).rows[0]
    for data in (X, X.numpy(), X.tolist(), (X + X, X), X.clone().requires_grad_(), nn.Parameter(X)):
        row = run(None, data, [4], 25).rows[0]
        assert row.mean.value == pytest.approx(exact.mean.value, rel=1e-5)
        assert row.mean.expected == pytest.approx(exact.mean.expected, rel=1e-5)
    whole = run(None, torch.tensor([3, -4], dtype=torch.int8), [1], 25).rows[0]
    assert whole.mean.expected == pytest.approx(3.5) and near(whole.mean, 3.5)
    wide = run(None, torch.tensor([200, 100], dtype=torch.uint8), [1], 25).rows[0]
    assert wide.mean.expected == pytest.approx(150) and near(wide.mean, 150)


# ------------------------------------------------------------------ what is no function of a batch


def keyword(e: Tensor, *, eps: float) -> Tensor:
    return e.mean() + eps


def optional(e: Tensor, *, eps: float = 1.0) -> Tensor:
    return e.square().mean() + eps


def three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return (a - b).abs().mean() * c.mean()


def fails(e: Tensor) -> Tensor:
    raise ZeroDivisionError("one\ntwo")


@pytest.mark.parametrize("fn", [3, "rmse", [rmse], {}, 2.5, object(), math], ids=lambda fn: type(fn).__name__)
def test_what_cannot_be_called(fn: Any) -> None:
    refused(fn, words="function")
    refused(fn, X)


@pytest.mark.parametrize(
    "fn",
    [
        lambda e: None,
        lambda e: "text",
        lambda e: [],
        lambda e: {},
        lambda e: e,
        lambda e: e * 2,
        lambda e: {"all": e.abs()},
        lambda e: e.reshape(-1, 1),
        lambda e: torch.empty(0),
        lambda e: object(),
        lambda e: (x for x in e),
    ],
)
def test_results_that_are_no_numbers(fn: Any) -> None:
    refused(fn)
    refused(fn, X)


def test_a_result_for_every_sample() -> None:
    refused(nn.L1Loss(reduction="none"), words="every sample reduce")
    refused(functools.partial(F.mse_loss, reduction="none"), (X, X + 1), words="every sample")


@pytest.mark.parametrize(
    "fn", [keyword, fails, lambda: 3.0, lambda **k: 3.0, torch.dist, len, print, int, nn.MSELoss, isinstance]
)
def test_functions_that_cannot_be_called_so(fn: Any) -> None:
    for errors in ("normal", X, (X, X)):
        table_or_line(fn, errors)
    if fn is keyword:
        refused(fn, words="eps")


def test_the_wrong_number_of_arguments() -> None:
    refused(rmse, X, words="real")
    refused(rmse, (X, X, X), words="argument")
    refused(lambda e: e.mean(), (X, X))
    refused(three, (X, X))


def test_other_ways_to_write_a_function() -> None:
    exact = run(lambda e: e.square().mean(), "normal", [4], 25).rows[0]
    for fn in (
        F.mse_loss,
        nn.MSELoss(),
        lambda *e: (e[0] ** 2).mean(),
        functools.partial(F.mse_loss, reduction="mean"),
        Square(),
        Square().value,
        lambda errors, /: errors.square().mean(),
        lambda e, extra=None: e.square().mean(),
        scripted,
        lambda e: np.mean(np.square(np.asarray(e))),
        torchmetrics.functional.mean_squared_error,
        torchmetrics.MeanSquaredError(),
        sklearn.metrics.mean_squared_error,
        lambda real, pred: (pred - real).square().mean(),
    ):
        row = run(fn, "normal", [4], 25).rows[0]
        if row.how == exact.how:
            assert row.mean.value == pytest.approx(exact.mean.value, rel=1e-5)
        assert near(row.mean, 1e4, deviations=5)
    assert run(optional, "normal", [4], 25).rows[0].mean.value == pytest.approx(exact.mean.value + 1)


class Square:
    def __call__(self, e: Tensor) -> Tensor:
        return e.square().mean()

    def value(self, e: Tensor) -> Tensor:
        return e.square().mean()


def scripted(e: Tensor) -> Tensor:
    return e.square().mean()


def test_results_with_other_things_among_the_numbers() -> None:
    exact = run(lambda e: e.square().mean().sqrt(), "laplace", [4], 25).rows[0]
    for fn in (
        lambda e: {"loss": e.square().mean().sqrt(), "name": "rmse"},
        lambda e: (e.square().mean().sqrt(), None),
        lambda e: [None, "x", e.square().mean().sqrt()],
        lambda e: {"n": len(e), "loss": e.square().mean().sqrt()},
        lambda e: (e.square().mean().sqrt(), True),
        lambda e: e.square().mean().sqrt().reshape(1, 1),
        lambda e: e.square().mean().sqrt().numpy(),
        lambda e: np.float32(e.square().mean().sqrt()),
    ):
        found = run(fn, "laplace", [4], 25)
        if "n" not in found.component:
            assert found.rows[0].mean.value == pytest.approx(exact.mean.value, rel=1e-5)
    table_or_line(lambda e: torch.complex(e.mean(), e.std()))
    table_or_line(lambda e: torch.complex(e.mean(), e.abs().mean()), X)
    table_or_line(lambda e: complex(e.mean(), 1.0))


def test_what_is_random_is_refused() -> None:
    refused(lambda e: F.dropout(e, 0.5).mean(), words="random")
    refused(nn.Sequential(nn.Dropout(0.5), nn.Flatten(0)), X.reshape(10, 4))


# ------------------------------------------------------------------ everything that others wrote


def losses() -> list[Any]:
    found = [
        cls()
        for name, cls in vars(nn).items()
        if name.endswith("Loss") and "Linear" not in name and "Adaptive" not in name
    ]
    found += [F.huber_loss, F.gaussian_nll_loss, F.hinge_embedding_loss, F.poisson_nll_loss, F.triplet_margin_loss]
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0])
    return [
        *found,
        nn.L1Loss(reduction="none"),
        nn.CrossEntropyLoss(weight=weight),
        nn.NLLLoss(weight=weight),
        F.kl_div,
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0])),
        nn.MSELoss(reduction="sum"),
        F.cross_entropy,
        nn.Linear(1, 1),
        nn.CosineSimilarity(),
        nn.BatchNorm1d(3),
        F.cosine_similarity,
        F.binary_cross_entropy,
        nn.Dropout(),
    ]


@pytest.mark.filterwarnings("ignore")
def test_losses_of_torch() -> None:
    tables = sum(table_or_line(fn, batches=3) is not None for fn in losses())
    assert tables > 18


def test_class_weights_in_single_precision() -> None:
    logits, label = torch.randn(50, 3), torch.randint(0, 3, (50,))
    weight = torch.tensor([1.0, 2.0, 0.5])
    single = run(nn.CrossEntropyLoss(weight=weight), (logits, label), [4], 25, direct=False).rows[0]
    double = run(nn.CrossEntropyLoss(weight=weight.double()), (logits.double(), label), [4], 25, direct=False).rows[0]
    assert single.mean.value == pytest.approx(double.mean.value, rel=1e-5)
    head = nn.Linear(3, 3)
    assert run(lambda x, y: F.cross_entropy(head(x), y), (logits, label), [4], 25).rows[0].mean.value > 0
    assert run(lambda e: head(e[:, None].expand(-1, 3)).abs().mean(), "normal", [4], 25).rows[0].mean.value > 0


NAMES = """r2_score mean_squared_error explained_variance_score mean_absolute_error median_absolute_error max_error
accuracy_score f1_score precision_score recall_score roc_auc_score log_loss brier_score_loss confusion_matrix
cohen_kappa_score matthews_corrcoef classification_report mutual_info_score silhouette_score"""


@pytest.mark.filterwarnings("ignore")
def test_metrics_of_scikit_learn() -> None:
    tables = sum(table_or_line(getattr(sklearn.metrics, name), batches=3) is not None for name in NAMES.split())
    assert tables > 10


TORCHMETRICS = """log_cosh_error tweedie_deviance_score peak_signal_noise_ratio r2_score pearson_corrcoef
spearman_corrcoef mean_squared_error cramers_v fleiss_kappa
image_gradients pairwise_cosine_similarity total_variation theils_u
explained_variance relative_squared_error concordance_corrcoef kendall_rank_corrcoef minkowski_distance accuracy
scale_invariant_signal_noise_ratio bleu_score"""


@pytest.mark.filterwarnings("ignore")
def test_metrics_of_torchmetrics() -> None:
    tables = sum(
        table_or_line(getattr(torchmetrics.functional, name), batches=3) is not None for name in TORCHMETRICS.split()
    )
    assert tables > 8
    for metric in (
        torchmetrics.R2Score(),
        torchmetrics.PearsonCorrCoef(),
        torchmetrics.MeanMetric(),
        torchmetrics.CatMetric(),
        torchmetrics.Accuracy(task="multiclass", num_classes=5),
        torchmetrics.AUROC(task="binary"),
        torchmetrics.MinMetric(),
    ):
        table_or_line(metric, batches=3)


@pytest.mark.parametrize(
    "name",
    ["log_cosh_error", "tweedie_deviance_score", "peak_signal_noise_ratio", "relative_squared_error", "r2_score"],
)
def test_torchmetrics_gives_its_own_values(name: str) -> None:
    fn = getattr(torchmetrics.functional, name)
    real = X.double() + 5
    pred = real + 0.1 * X.roll(3)
    data = (pred, real)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for size in (2, 8):
            at_once = run(fn, data, [size], 25, direct=False).rows[0]
            called = run(lambda p, y: fn(torch.tensor(p.tolist()).double(), y), data, [size], 25, direct=False).rows[0]
            assert called.how == "called" and at_once.undefined == called.undefined
            assert at_once.mean.value == pytest.approx(called.mean.value, rel=1e-5, abs=1e-6)


def test_predictions_and_targets_must_be_alike() -> None:
    for pair in ((X[:1], X), (X[:, None], X), (X.reshape(10, 4), X[:4]), (X, 1.0), (2, X)):
        table_or_line(rmse, pair)
        refused(None, pair)


def test_functions_that_look_at_no_sample() -> None:
    for fn in (
        len,
        lambda e: float(len(e)),
        lambda e: torch.tensor(3.0),
        lambda e: 7,
        lambda e: torch.ones_like(e).sum(),
    ):
        for errors in ("normal", "laplace", X):
            found = table_or_line(fn, errors)
            assert found is None or found.rows[0].mean.standard_error == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_metrics_of_ignite_take_one_pair() -> None:
    import ignite.metrics

    for metric in (ignite.metrics.MeanSquaredError(), ignite.metrics.Accuracy(), ignite.metrics.RootMeanSquaredError()):
        table_or_line(metric)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_metrics_of_torcheval() -> None:
    import torcheval.metrics

    for metric in (torcheval.metrics.MeanSquaredError(), torcheval.metrics.R2Score(), torcheval.metrics.Mean()):
        table_or_line(metric)


def test_messages_name_the_argument() -> None:
    assert "NaN" in refused(None, torch.tensor([1.0, 2.0, math.nan]))
    assert "sample 3" in refused(None, torch.tensor([1.0, 2.0, math.nan]))
    assert "normal" in refused(None, "norml")
    assert "0" in refused(batch_sizes=[0])
    for parameter in inspect.signature(bp.simulate).parameters.values():
        assert parameter.name == "fn" or parameter.default is not inspect.Parameter.empty
