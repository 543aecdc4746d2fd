"""What `explain` says of real architectures, held to its page; scores and greedy tokens of a causal model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")

from tests.trainers import architecture_table  # noqa: E402
from tests.trainers.architecture_table import ArchitectureRow  # noqa: E402
from tests.trainers.architectures import ARCHITECTURES, REMARKS, Architecture, text  # noqa: E402

import batchproof  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def found() -> list[ArchitectureRow]:
    """Every second one, 44 in all: each takes a second or two."""
    return list(architecture_table.rows(ARCHITECTURES[::2]))


def without_sizes(page: str) -> list[str]:
    """The lines of a page, but for how far an answer moves, which kernels decide."""
    return re.sub(r"✗ [\d.e+-]+", "✗", page).splitlines()


def test_the_page_says_what_the_models_do(found: list[ArchitectureRow]) -> None:
    made = [f"| {' | '.join(one.cells())} |" for one in found] + list(architecture_table.faults(found))
    shown = without_sizes(PAGE.read_text(encoding="utf-8"))
    strange = [line for line in without_sizes("\n".join(made)) if line not in shown]
    assert not strange, f"python -m tests.trainers.architecture_table {PAGE}"


@pytest.mark.long
def test_the_page_is_what_all_of_them_make() -> None:
    made = architecture_table.page(architecture_table.rows())
    assert without_sizes(made) == without_sizes(PAGE.read_text(encoding="utf-8"))


def test_each_fault_was_looked_into(found: list[ArchitectureRow]) -> None:
    assert {one.name for one in found if not one.is_safe} <= set(REMARKS)
    assert all(one.begins for one in found if not one.is_safe)
    assert set(REMARKS) <= {one.title for one in ARCHITECTURES}


def test_there_are_enough_of_each_group() -> None:
    groups = [one.group for one in ARCHITECTURES]
    assert len({one.title for one in ARCHITECTURES}) == len(ARCHITECTURES) >= 40
    assert all(groups.count(group) >= 6 for group in set(groups))


def gpt2() -> Any:
    (one,) = (one for one in ARCHITECTURES if one.name == "GPT2LMHeadModel")
    return one.build()[0]


def generation(model: torch.nn.Module) -> Iterator[Any]:
    torch.manual_seed(0)
    found = batchproof.explain(model, over=["generation"], **text())
    return (trial for trial in found.trials if trial.name in ("scores", "greedy tokens"))


def test_generation_that_numbers_positions() -> None:
    scores, tokens = generation(gpt2())
    assert scores.state in ("same", "rounding")
    assert tokens.state in ("same", "rounding")
    assert (tokens.flips, tokens.answers) == (0, 16)


def test_generation_that_counts_positions_from_the_padding() -> None:
    model = gpt2()
    forward = model.forward

    def deaf(*args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    model.forward = deaf
    model.transformer.wpe.weight.data.mul_(50)
    scores, tokens = generation(model)
    assert scores.state == "fault"
    assert tokens.state == "fault"
    assert 0 < tokens.flips <= tokens.answers


def test_greedy_tokens_that_tie_are_rounding() -> None:
    """Half of the tokens are twins: which of the two is the likelier is a matter of the last bit."""
    model = gpt2()
    head = torch.nn.Linear(32, 99, bias=False)
    torch.manual_seed(0)
    common = torch.randn(32)
    head.weight.data = common + 1e-7 * torch.randn(99, 32)
    model.lm_head = head
    _, tokens = generation(model)
    assert tokens.state == "rounding"
    assert tokens.flips


def test_what_is_no_language_model_is_not_scored() -> None:
    (one,) = (one for one in ARCHITECTURES if one.name == "BertModel")
    assert not list(generation(one.build()[0]))


def test_a_row_says_which_architecture_it_is() -> None:
    assert Architecture("Vision", "Net", variant="small").title == "Net, small"
