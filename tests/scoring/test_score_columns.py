"""Which columns the parameters of functions are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from batchproof import BatchproofError
from batchproof.scoring import match_columns, open_source
from batchproof.scoring.columns import arguments_of


def test_names_renames_and_columns_side_by_side() -> None:
    source = open_source(
        {"score": [1.0], "yTrue": [2], "logit_0": [1], "logit_10": [2.5], "logit_2": [3], "user": ["a"]}
    )
    found = match_columns(
        source,
        {"rmse(pred, y_true)": ["pred", "y_true"], "loss(logit, target)": ["logit", "target"]},
        {"pred": "score", "target": "yTrue"},
        ["user"],
    )
    assert found.columns == ("score", "yTrue", "logit_0", "logit_2", "logit_10")
    (block,) = source.read(source.pieces[0], found.columns, ["user"])
    logit, target = arguments_of(found.by_function["loss(logit, target)"], block.tensors)
    assert logit.tolist() == [[1, 3, 2.5]] and target.tolist() == [2]
    assert [value.tolist() for value in arguments_of(found.by_function["rmse(pred, y_true)"], block.tensors)] == [
        [1],
        [2],
    ]


def test_columns_without_names_are_taken_in_order() -> None:
    source = open_source((torch.ones(2), torch.zeros(2), torch.ones(2)))
    found = match_columns(source, {"two": ["a", "b"], "one": ["a"], "any": []})
    assert found.by_function == {"two": ("#1", "#2"), "one": ("#1",), "any": ("#1", "#2", "#3")}
    with pytest.raises(BatchproofError, match="holds 3 arrays without a name, and four takes a, b, c, d"):
        match_columns(source, {"four": ["a", "b", "c", "d"]})


def refused(
    message: str, functions: dict[str, list[str]], renames: dict[str, str] | None = None, keys: str = ""
) -> None:
    source = open_source({"score": [1.0], "real": [2], "user": ["a"]})
    with pytest.raises(BatchproofError) as caught:
        match_columns(source, functions, renames or {}, keys.split())
    assert str(caught.value) == message


def test_names_that_name_nothing() -> None:
    refused(
        "the arrays has no column scor, which f takes: did you mean score? it has score, real and user; "
        "name it with --column scor=...",
        {"f": ["scor", "real"]},
    )
    refused(
        "--column pred=sorce: the arrays has no column sorce; did you mean score? it has score, real and user",
        {"f": ["pred", "real"]},
        {"pred": "sorce"},
    )
    refused(
        "--column predd=score: no function has a parameter predd; did you mean pred? there are pred and real",
        {"f": ["pred", "real"]},
        {"predd": "score"},
    )
    refused(
        "the arrays has no column users: did you mean user? it has score, real and user", {"f": ["real"]}, {}, "users"
    )


def test_text_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("pred,real\n1,2\n2.5,3\n-,4\n")
    with pytest.raises(BatchproofError) as caught:
        match_columns(open_source(tmp_path), {"f": ["pred", "real"]})
    assert str(caught.value) == (f"the column pred holds text ('-' in row 3, line 4 of {tmp_path}/a.csv), not numbers")
    refused("the column user holds text ('a' in row 1 of the arrays), not numbers", {"f": ["user"]})
