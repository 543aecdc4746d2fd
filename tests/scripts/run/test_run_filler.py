"""Samples that a loader repeats to fill its last batch are no part of the exact value; equal rows of the data are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from running import one

LOADER = """
class Batches:
    def __init__(self, x, y, size, order):
        spare = (size - len(x) % size) % size
        if order == "last":
            rows = list(range(len(x))) + [len(x) - 1] * spare
        elif order == "first":
            rows = list(range(len(x))) + list(range(spare))
        else:
            rows = list(range(len(x)))
        self.x, self.y, self.size = x[rows], y[rows], size

    def __iter__(self):
        for k in range(0, len(self.x), self.size):
            yield self.x[k:k + self.size], self.y[k:k + self.size]

def generated(x, y, size):
    for k in range(0, len(x), size):
        yield x[k:k + size], y[k:k + size]

losses = []
with torch.no_grad():
    for a, b in LOADER_HERE:
        losses.append(((model(torch.as_tensor(a)) - torch.as_tensor(b)) ** 2).mean().item())
valid_loss = np.mean(losses)
whole = ((model(x) - y) ** 2).mean().item()
print(whole)
"""


@pytest.mark.parametrize("kind", ["x, y", "x.numpy(), y.numpy()"])
@pytest.mark.parametrize(("order", "copies"), [("last", 12), ("first", 12), ("none", 0)])
def test_copies_are_left_out(tmp_path: Path, kind: str, order: str, copies: int) -> None:
    text = LOADER.replace("LOADER_HERE", f"Batches({kind}, 16, {order!r})")
    row, last = one(tmp_path, text)
    torch.manual_seed(0)
    x = torch.randn(100, 3)
    y = x.sum(1, keepdim=True) + torch.randn(100, 1)
    torch.randint(0, 4, (100,))
    model = torch.nn.Linear(3, 1)
    assert last.exact == pytest.approx(((model(x) - y) ** 2).mean().item(), rel=1e-6)
    assert last.duplicates == copies
    if copies:
        assert "12 copies to fill the last batch" in row.why


def test_a_generator_works_like_a_loader(tmp_path: Path) -> None:
    _, last = one(tmp_path, LOADER.replace("LOADER_HERE", "generated(x, y, 16)"))
    assert last.sizes == ((16, 6), (4, 1))
    assert last.exact is not None


def test_equal_rows_of_the_data_are_samples(tmp_path: Path) -> None:
    text = "x = x.round().sign(); y = x.sum(1, keepdim=True)\n" + LOADER.replace(
        "LOADER_HERE", "Batches(x[:96], y[:96], 16, 'none')"
    )
    _, last = one(tmp_path, text)
    assert (last.duplicates, last.samples) == (0, 96)
    assert last.exact is not None or "is not known" in last.reason


def test_where_it_cannot_be_told_there_is_no_exact_value(tmp_path: Path) -> None:
    text = "x[5:7] = x[5].clone(); y[5:7] = y[5].clone()\n" + LOADER.replace("LOADER_HERE", "Batches(x, y, 16, 'last')")
    _, last = one(tmp_path, text)
    assert last.exact is None
    assert last.reason.startswith("its last 13 samples are one and the same")


def test_the_copies_of_a_distributed_sampler_are_left_out(tmp_path: Path) -> None:
    _, last = one(
        tmp_path,
        """
        from torch.utils.data import DistributedSampler
        odd = TensorDataset(x[:99], y[:99])
        total = 0.0
        batches = DataLoader(odd, 10, sampler=DistributedSampler(odd, 2, 1, shuffle=False))
        with torch.no_grad():
            for xb, yb in batches:
                total += ((model(xb) - yb) ** 2).mean().item()
        print(total / len(batches))
        """,
    )
    torch.manual_seed(0)
    x = torch.randn(100, 3)
    y = x.sum(1, keepdim=True) + torch.randn(100, 1)
    torch.randint(0, 4, (100,))
    model = torch.nn.Linear(3, 1)
    own = torch.arange(1, 99, 2)
    assert last.exact == pytest.approx(((model(x[own]) - y[own]) ** 2).mean().item(), rel=1e-6)
    assert last.duplicates == 1
