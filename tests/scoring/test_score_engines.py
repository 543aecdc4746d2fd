"""Engines beside this machine, as far as that can be tried without Ray: what travels, and what is said without it."""

from __future__ import annotations

import math
import pickle
import sys
from typing import Any

import pytest
import torch

import batchproof
from batchproof.errors import BatchproofError
from batchproof.scoring import open_source, ray_engine, ray_worker
from batchproof.scoring.conclude import conclude
from batchproof.scoring.score import functions_of
from batchproof.scoring.tally import NAN, Scan, Tally


def rms(x):
    return x.square().mean().sqrt()


def spectrum(z):
    return (z * z.conj().resolve_conj()).real.mean() + z.mean().abs()


def widest(half):
    return half.sort().values.diff().max()


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> Scan:
    """Functions whose states, and whose samples, are of unusual types; groups whose key is NaN."""
    monkeypatch.setattr("batchproof.scoring.arrays.PART_ROWS", 300)
    monkeypatch.setattr("batchproof.scoring.blocks.PART_ROWS", 300)
    key = torch.randint(3, (1_000,)).double()
    key[key == 1] = math.nan
    data = {
        "x": torch.randn(1_000),
        "z": torch.randn(1_000, dtype=torch.complex64),
        "half": torch.randn(1_000).bfloat16(),
        "key": key,
    }
    source = open_source(data)
    functions = functions_of(source, [rms, spectrum, widest], {}, ("key",), "dataset", "error")
    return Scan(source, functions, ("key",))


def everything(scan: Scan, tallies: list[Tally]) -> Any:
    total = Tally.empty(scan.functions)
    for tally in tallies:
        total.absorb(tally)
    found = conclude(scan, total, lambda again: pytest.fail("nothing is read twice"), False, lambda *_: None)
    return [(one.value, one.standard_error, one.averaged) for one in found.numbers], repr(found.groups)


def test_a_tally_that_travelled_is_the_same(scan):
    assert len(scan.source.pieces) == 4
    here = [scan.tally(piece) for piece in scan.source.pieces]
    sent = [ray_worker.bytes_of(tally) for tally in here]
    assert b"square" not in b"".join(sent)  # no line of a function, as in a plan
    there = [ray_worker.tally_of(data, scan) for data in sent]
    assert everything(scan, there) == everything(scan, here)
    assert len({group for tally in there for group in tally.keys.numbers}) == 3


def test_keys_that_travelled_are_found(scan):
    only = pickle.loads(pickle.dumps(frozenset({(math.nan,)})))
    found = {ray_worker._with_our_nan(key) for key in only}
    assert (NAN,) in found
    assert (NAN,) not in only


def test_the_tree_keeps_the_order_whatever_comes_first():
    for count in (1, 7, 8, 9, 64, 65, 200):
        for step in (1, 3, 11):
            if math.gcd(step, count) > 1:
                continue
            tree = ray_engine.Tree(lambda parts: [one for part in parts for one in part])
            for number in range(count):
                tree.add(number * step % count, [number * step % count])
            assert tree.root() == list(range(count))


def test_the_tree_of_some_of_the_items():
    tree = ray_engine.Tree("".join)
    for number in (0, 1, 2, 3, 4, 5, 6, 7, 9, 17, 18):
        tree.add(number, chr(97 + number))
    assert tree.root() == "abcdefghjrs"


def test_ray_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BatchproofError, match=r'Ray is not installed: pip install "batchproof\[ray\]"'):
        batchproof.score({"x": torch.ones(10)}, rms, engine="ray")


def test_an_engine_that_is_none():
    with pytest.raises(BatchproofError, match="engine='dask': expected 'local', 'ray', or where a cluster is"):
        batchproof.score({"x": torch.ones(10)}, rms, engine="dask")
