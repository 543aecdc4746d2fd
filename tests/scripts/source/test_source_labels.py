"""What a script prints before a number: the word that its reader knows it by."""

from __future__ import annotations

from pathlib import Path

import pytest

from running import run
from scripts_read import loop, only

ADDED = "total += (model(x) - y).square().mean().item()"


@pytest.mark.parametrize(
    ("after", "labels"),
    [
        ('print(f"loss: {total / len(loader):.3f}")', ("loss",)),
        ('print(f"Test set: Average loss {total / len(loader)}")', ("Average loss",)),
        ('print(f"epoch {args.epoch} | test MSE = {total / len(loader):.4f}, n = {args.n}")', ("test MSE",)),
        ('print("loss", total / len(loader))', ("loss",)),
        ('print("epoch", 3, "loss:", total / len(loader))', ("loss",)),
        ('print("epoch {}, loss: {:.3f}".format(3, total / len(loader)))', ("loss",)),
        ('print("loss: {1} of {0}, {mean}".format(3, 4, mean=total / len(loader)))', ()),
        ('print("loss: {mean}".format(mean=total / len(loader)))', ("loss",)),
        ('print("{".format(total / len(loader)))', ()),
        ('text = f"loss {total / len(loader)}"', ("loss",)),
        ('print("loss", 3, total / len(loader))', ()),
        ('print(f"{args.epoch}: {total / len(loader)}")', ()),
        ('print(f"took {args.time}s, 3 batches {total / len(loader)}")', ()),
        ("print(total / len(loader))", ()),
        ("return total / len(loader)", ()),
    ],
)
def test_the_text_directly_before_a_number(after: str, labels: tuple[str, ...]) -> None:
    assert only(loop(ADDED, after)).labels == labels


def test_a_function_that_is_called_twice_has_two() -> None:
    calls = '\nprint("train", evaluate(a, m, 0, 0))\nprint("test", evaluate(b, m, 0, 0))\n'
    assert only(loop(ADDED) + calls).labels == ("train", "test")


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ('print(f"loss: {total / len(loader)}")', "loss (total)"),
        ('print("Total", total / len(loader))', "total"),
        ('mean_loss = total / len(loader)\nprint("loss", mean_loss)', "mean_loss"),
        ('mean = total / len(loader)\nprint("loss", mean)', "loss (mean)"),
        ('print("loss", total / len(loader), "again", total / len(loader))', "total"),
    ],
)
def test_a_run_calls_it_as_its_reader_does(tmp_path: Path, printed: str, name: str) -> None:
    script = "total = 0.0\nfor x, y in loader:\n    total += F.mse_loss(model(x), y).item()\n" + printed
    found, _ = run(tmp_path, script)
    assert [row.name for row in found.measured] == [name]
    assert "total" in found.measured[0].names
