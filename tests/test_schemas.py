"""What each verb gives with ``--json`` is what its schema under docs says, no more and no less."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import batchproof
from batchproof.report.result import Result
from commands import command, inside
from comparisons import World, comparison
from planted_runs import DATA, FROZEN, MSE, RMSE, evaluated, trained

DOCS = Path(__file__).parents[1] / "docs"
_spec = importlib.util.spec_from_file_location("docs_schemas", DOCS / "schemas.py")
assert _spec is not None and _spec.loader is not None
written = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = written
_spec.loader.exec_module(written)

LOSS = """
import torch
def rmse(pred, real): return torch.sqrt(torch.mean((pred - real) ** 2))
def torn(pred, real): return (pred - real).std()
norm = torch.nn.BatchNorm1d(3)
def make(): return torch.nn.Linear(3, 1), torch.nn.functional.mse_loss, (torch.randn(64, 3), torch.randn(64, 1))
"""
FILES = {
    "loss.py": LOSS,
    "wrong.py": DATA + FROZEN + evaluated(RMSE),
    "trained.py": trained(),
    "nan.py": DATA + FROZEN + evaluated(f"({MSE} / 0)"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent / "src"))
    with inside(tmp_path, monkeypatch, FILES, columns=80) as folder:
        yield folder


def wrong(value: Any, schema: dict[str, Any], whole: dict[str, Any], path: str = "") -> Iterator[str]:
    """Where a value is not what a schema says; a property that it does not list is wrong, too."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    known = {"type", "properties", "required", "items", "prefixItems", "additionalProperties", "anyOf", "enum", "const"}
    assert set(schema) - known <= {"$schema", "title", "$defs"}, schema
    if "anyOf" in schema and all(list(wrong(value, part, whole, path)) for part in schema["anyOf"]):
        yield f"{path}: {value!r} is none of {schema['anyOf']}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {value!r} is not {schema['const']!r}"
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    kind = {**kinds, "array": list, "object": dict}.get(schema.get("type", ""), object)
    if not isinstance(value, kind) or (isinstance(value, bool) and schema.get("type") in ("integer", "number")):
        yield f"{path}: {value!r} is no {schema['type']}"
        return
    if schema.get("type") == "object":
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        yield from (f"{path}.{name} is missing" for name in schema.get("required", []) if name not in value)
        for name, item in value.items():
            if name in properties or others is not None:
                yield from wrong(item, properties.get(name, others), whole, f"{path}.{name}")
            else:
                yield f"{path}.{name} is not listed"
    if schema.get("type") == "array":
        first = schema.get("prefixItems", [])
        if schema["items"] is False and len(value) != len(first):
            yield f"{path}: {len(value)} items for {len(first)}"
        for index, item in enumerate(value):
            part = first[index] if index < len(first) else schema["items"]
            yield from wrong(item, part, whole, f"{path}[{index}]")


def holds(data: dict[str, Any], verb: str) -> dict[str, Any]:
    schema = json.loads((DOCS / "schemas" / f"{verb}.json").read_text())
    assert data["schema"] == schema["title"] == f"batchproof/{verb}/1"
    assert next(iter(data)) == "schema"
    assert list(wrong(data, schema, schema)) == []
    return data


def test_the_committed_schemas_are_current() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "schemas").iterdir()}
    assert there == written.schemas(), "python docs/schemas.py"


def test_every_result_has_one() -> None:
    importlib.import_module("batchproof.gradients.check")
    ours = {result for result in Result.__subclasses__() if result.__module__.startswith("batchproof.")}
    assert ours == set(written.RESULTS)


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("explain", ["loss.py:rmse"]),
        ("explain", ["loss.py:torn"]),
        ("explain", ["loss.py:norm"]),
        ("explain", ["loss.py:norm", "--over", "order"]),
        ("explain", ["torchmetrics.regression:R2Score"]),
        ("simulate", ["--batch-size", "1,16", "--batches", "100"]),
        ("noise", ["loss.py:make", "--batch-size", "4,8", "--batches", "10"]),
        ("lint", ["wrong.py", "trained.py", "loss.py"]),
        ("rule", []),
        ("rule", ["BP101"]),
        ("check", ["wrong.py", "--batch-size", "20,50"]),
        ("check", ["loss.py"]),
    ],
    ids=str,
)
def test_what_a_verb_gives(verb: str, args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = command(capsys, verb, *args, "--json")
    assert out, (status, err)
    holds(json.loads(out), verb)


@pytest.mark.parametrize("script", ["wrong.py", "trained.py", "nan.py"])
def test_what_a_run_gives(script: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    command(capsys, "run", script)
    data = holds(json.loads((folder / ".batchproof" / "run.json").read_text()), "run")
    assert data["measured"]
    holds(json.loads(command(capsys, "report", "--json")[1]), "run")
    (folder / "run2.json").write_text(json.dumps({**data, "schema": "batchproof/run/2"}))
    status, _, err = command(capsys, "report", "run2.json")
    assert status == 2
    assert err == "error: run2.json holds batchproof/run/2, and this version of batchproof reads batchproof/run/1\n"


def test_what_a_comparison_gives() -> None:
    holds(json.loads(json.dumps(comparison(World()).to_dict(), allow_nan=False)), "compare")


def test_what_a_baseline_holds(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    command(capsys, "lint", "--write-baseline", "known.json")
    assert holds(json.loads((folder / "known.json").read_text()), "lint-baseline")["findings"]


def test_what_checking_gradients_gives() -> None:
    model, x = torch.nn.Linear(3, 1), torch.arange(12.0).view(4, 3)
    loss = lambda part: model(part).square().mean()  # noqa: E731

    def accumulated(scale: float) -> None:
        for part in x.split(2):
            (loss(part) * scale).backward()

    for scale in (0.5, 1.0):
        found = batchproof.check_gradients(lambda: loss(x).backward(), lambda scale=scale: accumulated(scale), model)
        holds(json.loads(json.dumps(found.to_dict(), allow_nan=False)), "check-gradients")


def test_what_checking_partitions_gives() -> None:
    def of_tokens(losses: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (losses * mask).sum() / mask.sum()

    mask = (torch.arange(5) < torch.tensor([[2], [5], [3], [4]])).float()
    for cuts in (None, ["order"]):
        found = batchproof.check_partitions(of_tokens, (torch.randn(4, 5), mask), cuts=cuts)
        holds(json.loads(json.dumps(found.to_dict(), allow_nan=False)), "check-partitions")


def test_the_validator_finds_what_is_wrong() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert [next(wrong(value, schema, {})) for value in ({}, {"a": True}, {"a": 1, "b": 2}, 3)] == [
        ".a is missing",
        ".a: True is no integer",
        ".b is not listed",
        ": 3 is no object",
    ]
