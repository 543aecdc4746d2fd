"""Content: two operations are one where they do the same to the same, and numbers of another type are others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from batchproof.derive.content import key_of
from batchproof.derive.recording import Op, Ref
from batchproof.derive.site import CallSite

aten = torch.ops.aten


def key(func: Any, *args: Any, **kwargs: Any) -> Any:
    return key_of(Op(func, args, kwargs, (), (), CallSite(), 0), lambda index: index)


def test_the_same_done_to_the_same_is_one() -> None:
    assert key(aten.add.Tensor, Ref(0), 1.5) == key(aten.add.Tensor, Ref(0), 1.5)
    assert key(aten.sum.dim_IntList, Ref(3), [0], dtype=None) == key(aten.sum.dim_IntList, Ref(3), [0], dtype=None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (key(aten.add.Tensor, Ref(0), 1), key(aten.add.Tensor, Ref(0), 1.0)),
        (key(aten.add.Tensor, Ref(0), 1), key(aten.add.Tensor, Ref(0), True)),
        (key(aten.add.Tensor, Ref(0), 0.0), key(aten.add.Tensor, Ref(0), -0.0)),
        (key(aten.add.Tensor, Ref(0), 1), key(aten.sub.Tensor, Ref(0), 1)),
        (key(aten.add.Tensor, Ref(0), 1), key(aten.add.Tensor, Ref(1), 1)),
        (key(aten.cat.default, [Ref(0), Ref(1)], 0), key(aten.cat.default, [Ref(0)], Ref(1), 0)),
        (key(aten.add.Tensor, Ref(0), Ref(1), alpha=2), key(aten.add.Tensor, Ref(0), Ref(1), beta=2)),
    ],
    ids=["whole and float", "number and truth", "zeros", "operators", "values", "lists", "keywords"],
)
def test_what_differs_is_another(one: Any, other: Any) -> None:
    assert one != other
