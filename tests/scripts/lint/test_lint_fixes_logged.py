"""``--fix`` of what a Lightning module logs: the metric itself, or an exact one of the function; else hands off."""

from __future__ import annotations

import textwrap

import pytest

from batchproof.scripts.lint.one_file import repaired

HEAD = """\
import lightning as L
import torch
import torchmetrics


def rmse(p, y):
    return torch.sqrt(torch.mean((p - y) ** 2))


class Regressor(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.f1 = torchmetrics.F1Score(task="binary")
        self.several = torchmetrics.MetricCollection({"f1": torchmetrics.F1Score(task="binary")})
"""


def script(body: str, head: str = HEAD) -> str:
    return head + "\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"


def fixed(text: str) -> tuple[str, int]:
    after, linted = repaired("module.py", text.encode())
    return after.decode(), linted.fixed


STEP = """
    def validation_step(self, batch, batch_idx):
        p, y = self(batch[0]), batch[1]
        {}
"""


def step(*lines: str) -> str:
    return script(STEP.format("\n        ".join(lines)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (['self.log("f1", self.f1(p, y), prog_bar=True)'], ["self.f1(p, y)", 'self.log("f1", self.f1, prog_bar=True)']),
        (["self.log_dict(self.several(p, y))"], ["self.several(p, y)", "self.log_dict(self.several)"]),
        (['self.log_dict({"f1": self.f1(p, y)})'], ["self.f1(p, y)", 'self.log_dict({"f1": self.f1})']),
        (
            ["value = self.f1(p, y)", 'self.log("f1", value)', "print(value)"],
            ["value = self.f1(p, y)", 'self.log("f1", self.f1)', "print(value)"],
        ),
        (
            ["if len(y) > 1:", '    self.log(name="f1", value=self.f1(', '        p, y))  # F1'],
            ["if len(y) > 1:", "    self.f1(\n                p, y)", '    self.log(name="f1", value=self.f1)  # F1'],
        ),
    ],
)  # fmt: skip
def test_the_metric_is_logged(before: list[str], after: list[str]) -> None:
    assert fixed(step(*before)) == (step(*after), 1)
    assert fixed(step(*after)) == (step(*after), 0)


def test_a_function_becomes_an_exact_metric_of_its_stage() -> None:
    text, count = fixed(step('self.log("rmse", rmse(p, y), on_epoch=True)'))
    expected = step("self.val_rmse(p, y)", 'self.log("rmse", self.val_rmse, on_epoch=True)')
    expected = expected.replace(
        "super().__init__()\n", "super().__init__()\n        self.val_rmse = batchproof.exact(rmse)\n"
    )
    expected = expected.replace("import torchmetrics\n", "import torchmetrics\nimport batchproof\n")
    assert (text, count) == (expected, 1)


def test_each_stage_has_its_own() -> None:
    both = script(
        """
        def training_step(self, batch, batch_idx):
            p, y = self(batch[0]), batch[1]
            self.log("train", rmse(p, y), on_epoch=True)

        def test_step(self, batch, batch_idx):
            p, y = self(batch[0]), batch[1]
            self.log("test", rmse(p, y))
        """
    )
    text, count = fixed(both)
    assert count == 2
    for stage in ("train", "test"):
        assert f"self.{stage}_rmse = batchproof.exact(rmse)" in text
        assert f'self.log("{stage}", self.{stage}_rmse' in text


@pytest.mark.parametrize(
    "lines",
    [
        ['self.log("f1", self.f1(p, y).item())'],  # no metric any more
        ['self.log("f1", 100 * self.f1(p, y))'],
        ['self.log("f1", self.f1(p, y))', "print(self.f1)"],  # it may be read in between
        ["value = self.f1(p, y)", "value = 100 * value", 'self.log("f1", value)'],
        ['self.log("f1", self.f1(p, y)); print(p)'],
        ['self.log("rmse", rmse(p, self.scale))'],  # what changes with the module is no sample
        ['self.log("rmse", rmse(p, y=y))'],
        ['self.log("rmse", rmse(p, y).item())'],
        ['self.log("rmse", torch.sqrt(torch.mean((p - y) ** 2)))'],
        ["self.val_rmse = 3", 'self.log("rmse", rmse(p, y))'],
    ],
)
def test_what_is_not_sure_is_left(lines: list[str]) -> None:
    text = step(*lines)
    assert fixed(text) == (text, 0)


def test_a_metric_that_two_steps_share_is_left() -> None:
    """The end of one's epoch would reset the other's."""
    text = script(
        """
        def training_step(self, batch, batch_idx):
            self.f1.update(self(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            self.log("f1", self.f1(self(batch[0]), batch[1]))
        """
    )
    assert fixed(text) == (text, 0)


def test_without_an_init_of_its_own_nothing_is_added() -> None:
    head = HEAD[: HEAD.index("    def __init__")].rstrip()
    text = script(STEP.format('self.log("rmse", rmse(p, y))'), head)
    assert fixed(text) == (text, 0)
