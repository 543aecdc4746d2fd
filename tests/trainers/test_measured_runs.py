"""Scripts of trainers under run: what they print, the exact value, and the reason, against what the scripts saw."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.running import as_it_was
from torch.nn import functional

from batchproof.scripts.run import Control, MeasuredAccumulator, ScriptRun, execute
from batchproof.scripts.run.session import Session

SCRIPTS = Path(__file__).parent / "scripts"
Calls = list[tuple[torch.Tensor, torch.Tensor]]


def measured(
    name: str, *arguments: str, out: io.StringIO | None = None
) -> tuple[dict[str, MeasuredAccumulator], ScriptRun]:
    """The numbers of a script by name."""
    with as_it_was(), contextlib.redirect_stdout(out or io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        session = Session(execute.script(str(SCRIPTS / name), list(arguments)), Control())
        found = session.result(session.run())
    assert not found.failed, found.failed
    return {row.name: row for row in found.measured}, found


@contextlib.contextmanager
def noted(name: str) -> Iterator[Calls]:
    """What one of torch's loss functions is called with."""
    own, calls = getattr(functional, name), Calls()

    def noting(prediction: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append((prediction.detach().clone(), target.clone()))
        return own(prediction, target, *args, **kwargs)

    setattr(functional, name, noting)
    try:
        yield calls
    finally:
        setattr(functional, name, own)


def plain(name: str, loss: str, *arguments: str) -> tuple[Calls, str]:
    """What the script computes its losses of without us, and what it prints."""
    with as_it_was(), contextlib.redirect_stdout(io.StringIO()) as out, noted(loss) as calls:
        target = execute.script(str(SCRIPTS / name), list(arguments))
        code = execute.compiled(execute.read(target), str(target.path))
        ending = execute.run(target, code, execute.main_module(target))
    assert not ending.failed, ending.failed
    return calls, out.getvalue()


def together(calls: Calls) -> tuple[torch.Tensor, torch.Tensor]:
    """All batches as one."""
    return torch.cat([one for one, _ in calls]), torch.cat([other for _, other in calls])


def near(value: float | None, other: Any) -> bool:
    return value == pytest.approx(float(other), rel=1e-5)


@pytest.mark.integration("lightning", "`run` measures what `self.log` averages over an epoch")
@pytest.mark.filterwarnings("ignore")
def test_lightning() -> None:
    pytest.importorskip("lightning")
    rows, found = measured("lightning_regression.py")
    assert set(rows) == {"train_loss", "val_rmse", "val_loss"}
    calls, _ = plain("lightning_regression.py", "mse_loss")
    last = together(calls[-7:])  # an epoch's validation is the last that happens
    rmse = rows["val_rmse"].last
    assert near(rmse.exact, functional.mse_loss(*last).sqrt())
    assert rmse.error is not None
    assert rmse.error < -0.01
    assert rows["val_rmse"].why == "the square root is taken of each batch"
    assert rows["val_rmse"].cause is not None
    assert "torch.sqrt" in rows["val_rmse"].cause.text
    assert rows["val_loss"].last.is_exact
    assert near(rows["val_loss"].last.printed, functional.mse_loss(*last))
    train = rows["train_loss"]
    assert (train.phase, train.last.updates, len(train.epochs)) == ("training", 7, 2)
    assert train.last.is_exact
    assert near(train.last.exact, functional.mse_loss(*together(calls[-14:-7])))
    assert rows["val_rmse"].phase == "evaluation"
    assert found.notes == ()


@pytest.mark.integration("pytorch-lightning", "`run` measures what one step for both phases logs, each under its name")
@pytest.mark.filterwarnings("ignore")
def test_one_step_of_pytorch_lightning_for_both_phases() -> None:
    pytest.importorskip("pytorch_lightning")
    rows, _ = measured("pl_shared.py")
    assert set(rows) == {"train_loss", "train_rmse", "val_loss", "val_rmse"}
    assert [name for name, row in sorted(rows.items()) if row.wrong] == ["train_rmse", "val_rmse"]
    calls, _ = plain("pl_shared.py", "mse_loss")
    assert near(rows["val_rmse"].last.exact, functional.mse_loss(*together(calls[-7:])).sqrt())
    assert near(rows["train_rmse"].last.exact, functional.mse_loss(*together(calls[-14:-7])).sqrt())


@pytest.mark.integration("torchmetrics", "`run` measures the wrong average of `self.log(name, metric(p, y))`")
@pytest.mark.filterwarnings("ignore")
def test_what_lightning_logs_of_tables_loaders_and_metric_objects() -> None:
    pytest.importorskip("lightning")
    out = io.StringIO()
    rows, found = measured("lightning_metrics.py", out=out)
    printed = eval(out.getvalue().strip().splitlines()[-1])
    assert {name.partition("/")[0] for name in rows} == {
        f"{stage}_{what}" for stage in ("val", "test") for what in ("mse", "mae", "called")
    }
    assert [name for name, row in sorted(rows.items()) if row.wrong] == [
        "test_called", "val_called/dataloader_idx_0", "val_called/dataloader_idx_1"
    ]  # fmt: skip
    called = rows["test_called"]
    assert near(called.last.exact, printed["test_object"])  # torchmetrics' own, of all batches
    assert near(called.last.printed, printed["test_called"])
    assert called.why == "a root is taken of each batch"
    assert near(rows["test_mse"].last.exact, printed["test_mse"])
    assert rows["val_mse/dataloader_idx_1"].last.sizes == ((30, 3), (10, 1))
    assert len(rows["val_mse/dataloader_idx_0"].epochs) == 4  # twice in an epoch, without the check before the first
    assert any("largest" in note for note in found.notes)


@pytest.mark.integration("transformers", "`run` measures `loss` and `eval_loss` of a model that computes its loss")
@pytest.mark.filterwarnings("ignore")
def test_trainer_with_a_loss_of_its_model() -> None:
    pytest.importorskip("transformers")
    rows, _ = measured("hf_trainer.py")
    assert set(rows) == {"loss", "eval_loss"}
    calls, printed = plain("hf_trainer.py", "cross_entropy")
    evaluation = together(calls[-7:])
    assert near(rows["eval_loss"].last.exact, functional.cross_entropy(*evaluation))
    assert len(rows["eval_loss"].epochs) == 3
    assert f"{rows['eval_loss'].last.printed}" in printed
    assert near(rows["loss"].last.exact, functional.cross_entropy(*together(calls[-21:-14])))
    assert rows["loss"].last.updates == 7
    assert rows["loss"].place.text == "trainer.train()"


@pytest.mark.integration("transformers", "`run` puts the micro-batches of an optimizer step together")
@pytest.mark.filterwarnings("ignore")
def test_trainer_with_accumulated_gradients() -> None:
    pytest.importorskip("transformers")
    rows, _ = measured("hf_trainer.py", "8", "3")
    loss = rows["loss"].last
    calls, printed = plain("hf_trainer.py", "cross_entropy", "8", "3")
    assert near(loss.exact, functional.cross_entropy(*together(calls[-21:-14])))
    assert (loss.updates, loss.sizes) == (3, ((24, 2), (2, 1)))
    assert f"'loss': '{loss.printed:.4g}'" in printed
    assert "first of each sequence" in rows["loss"].why


@pytest.mark.integration("transformers", "`run` measures a `compute_loss` of the script's own, gradients accumulated")
@pytest.mark.filterwarnings("ignore")
def test_trainer_with_a_loss_of_the_script() -> None:
    pytest.importorskip("transformers")
    rows, _ = measured("hf_custom_loss.py")
    calls, _ = plain("hf_custom_loss.py", "mse_loss")
    assert near(rows["eval_loss"].last.exact, functional.mse_loss(*together(calls[-7:])).sqrt())
    assert near(rows["loss"].last.exact, functional.mse_loss(*together(calls[-14:-7])).sqrt())
    assert near(rows["loss"].last.printed, rows["loss"].last.averaged)
    assert rows["loss"].last.updates == 4  # for 7 batches
    assert rows["eval_loss"].why == "the square root is taken of each batch"


@pytest.mark.integration("accelerate", "`run` measures a loop over prepared loaders, and losses repeated for gathering")
@pytest.mark.filterwarnings("ignore")
def test_loop_of_accelerate() -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    rows, _ = measured("accelerate_loop.py")
    assert set(rows) == {"train_loss", "eval_loss"}
    calls, printed = plain("accelerate_loop.py", "cross_entropy")
    assert near(rows["eval_loss"].last.exact, functional.cross_entropy(*together(calls[-7:])))
    assert near(rows["train_loss"].last.exact, functional.cross_entropy(*together(calls[-14:-7])))
    assert f"{rows['eval_loss'].last.printed:.6f}" in printed
    assert near(rows["eval_loss"].last.printed, rows["eval_loss"].last.weighted)
    assert rows["eval_loss"].last.is_exact is False


@pytest.mark.filterwarnings("ignore")
def test_what_a_script_prints_is_what_it_prints_without_us(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    session = Session(execute.script(str(SCRIPTS / "accelerate_loop.py"), []), Control())
    with as_it_was(), contextlib.redirect_stdout(io.StringIO()) as out:
        session.run()
    _, printed = plain("accelerate_loop.py", "cross_entropy")
    assert out.getvalue() == printed
    assert "__call__" not in vars(sys.modules["transformers.modeling_utils"].PreTrainedModel)
