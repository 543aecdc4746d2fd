"""Data files: every column in its own type, or one line that says what is wrong."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import feather, parquet

from batchproof import BatchproofError
from batchproof.ground import datafile
from batchproof.ground.datatable import Unusable

LOSS = """
def error(pred, real):
    return (pred - real).square().mean().sqrt()
"""


def csv(folder: Path, text: str | bytes) -> dict[str, Any]:
    path = folder / "some.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return datafile.load(path)


def table(folder: Path, ending: str = "parquet", **columns: Any) -> dict[str, Any]:
    path = folder / f"some.{ending}"
    made = pa.table(columns)
    parquet.write_table(made, path) if ending == "parquet" else feather.write_feather(made, path)
    return datafile.load(path)


def refused(folder: Path, text: str | bytes, *words: str) -> None:
    with pytest.raises(BatchproofError) as caught:
        csv(folder, text)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_double_precision_is_kept(tmp_path: Path) -> None:
    """Numbers near 1e7 that differ in the ninth digit: their errors are gone in float32."""
    real = [1e7 + k for k in range(50)]
    pred = [value + 0.125 for value in real]
    expected = 0.125
    text = "pred,real\n" + "\n".join(f"{p!r},{r!r}" for p, r in zip(pred, real))
    found = [csv(tmp_path, text), *(table(tmp_path, ending, pred=pred, real=real) for ending in ("parquet", "feather"))]
    np.savez(tmp_path / "some.npz", pred=np.array(pred), real=np.array(real))
    found.append(datafile.load(tmp_path / "some.npz"))
    for columns in found:
        assert columns["pred"].dtype is torch.float64
        assert (columns["pred"] - columns["real"]).square().mean().sqrt() == expected


def test_types_of_a_csv(tmp_path: Path) -> None:
    found = csv(tmp_path, 'a,b, c ,d,e\n1,1.5,true,"x, y",2024-01-01\n-2,,false,z,2024-01-02\n')
    assert found["a"].tolist() == [1, -2] and found["a"].dtype is torch.int64
    assert found["b"].dtype is torch.float64 and found["b"].isnan().tolist() == [False, True]
    assert found["c"].tolist() == [True, False]
    assert found["d"] == ["x, y", "z"]
    assert isinstance(found["e"], Unusable) and "date" in found["e"].why


def test_whole_numbers_with_a_gap(tmp_path: Path) -> None:
    """NaN for what is missing, and no digit lost: float64 holds whole numbers up to 2**53."""
    found = csv(tmp_path, f"a,b\n1,{2**53 + 1}\n,2\n3,\n")
    assert (
        found["a"].dtype is torch.float64 and found["a"][0] == 1 and found["a"].isnan().tolist() == [False, True, False]
    )
    assert isinstance(found["b"], Unusable)


def test_bom_and_line_ends(tmp_path: Path) -> None:
    found = csv(tmp_path, b"\xef\xbb\xbfpred,real\r\n1,2\r\n3,4\r\n")
    assert list(found) == ["pred", "real"] and found["real"].tolist() == [2, 4]


def test_quoted_line_ends(tmp_path: Path) -> None:
    assert csv(tmp_path, 'a,b\n"one\ntwo",1\nthree,2\n')["a"] == ["one\ntwo", "three"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("is empty",)),
        ("\n\n", ("is empty",)),
        ("a,b\n", ("no rows below its header",)),
        ("a,b\n1,2\n3\n", ("line 3", "1 values for 2 columns")),
        ("a,a\n1,2\n3,4\n", ("two columns named 'a'",)),
        ("a;b\n1;2\n3;4\n", ("';'", "','")),
    ],
)
def test_tables_that_are_broken(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    refused(tmp_path, text, *words)


@pytest.mark.parametrize("ending", ["csv", "parquet", "feather", "npz"])
def test_what_only_has_the_name_of_such_a_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"some.{ending}"
    path.write_bytes(bytes(range(256)) * 4)
    try:
        datafile.load(path)
    except BatchproofError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_types_of_a_table(tmp_path: Path, ending: str) -> None:
    kinds = ["int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64", "bool"]
    columns = {
        kind: pa.array(np.array([1, 0, 1], dtype=kind)) for kind in kinds if (ending, kind) != ("parquet", "float16")
    }
    found = table(tmp_path, ending, **columns)
    for kind in columns:
        assert found[kind].dtype is getattr(torch, kind), kind
        assert found[kind].tolist() == [1, 0, 1]


def test_unsigned_numbers_keep_their_value(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        a=pa.array([1, 2**16 - 1], pa.uint16()),
        b=pa.array([1, 2**32 - 1], pa.uint32()),
        c=pa.array([1, 2**63 - 1], pa.uint64()),
        d=pa.array([1, 2**64 - 1], pa.uint64()),
    )
    assert [found[name].tolist() for name in "abc"] == [[1, 2**16 - 1], [1, 2**32 - 1], [1, 2**63 - 1]]
    assert isinstance(found["d"], Unusable)


def test_lists_categories_and_the_rest(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        fixed=pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        even=[[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
        ragged=[[1.0], [2.0, 3.0]],
        label=pa.array(["cat", "dog"]).dictionary_encode(),
        number=pa.array([7, 9]).dictionary_encode(),
        money=pa.array([1, 2], pa.decimal128(9, 2)),
        gone=pa.array([True, None]),
        holes=[[1], None],
        inside=[{"a": 1}, {"a": 2}],
        words=[["a"], ["b"]],
        nothing=pa.nulls(2),
    )
    assert found["fixed"].dtype is torch.float32 and found["fixed"].tolist() == [[1, 2], [3, 4]]
    assert found["even"].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert [x.tolist() for x in found["ragged"]] == [[1.0], [2.0, 3.0]]
    assert found["label"] == ["cat", "dog"] and found["number"].tolist() == [7, 9]
    assert found["money"].dtype is torch.float64 and found["money"].tolist() == [1, 2]
    assert found["nothing"].isnan().all()
    assert all(isinstance(found[name], Unusable) for name in ("gone", "holes", "inside", "words"))


def test_a_column_that_is_not_asked_for_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("pred,when,real\n1.5,2024-01-01,2\n2.5,2024-01-02,1\n")
    columns = datafile.load(path)
    pred, real = datafile.fill(columns, ["pred", "real"], {}, path, "f")
    assert pred.tolist() == [1.5, 2.5] and real.tolist() == [2, 1]
    with pytest.raises(BatchproofError, match="holds date32"):
        datafile.fill(columns, ["pred", "when"], {}, path, "f")


def test_the_text_that_is_no_number_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("pred,real\n1,2\n2,3\n3,missing\n")
    with pytest.raises(BatchproofError, match=r"real holds text .'missing'."):
        datafile.fill(datafile.load(path), ["pred", "real"], {}, path, "f")


def test_arrays_that_torch_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, a=np.array([1, 2], ">f8"), b=np.array(["x", "y"]), c=np.array([1, 2], "uint32"))
    found = datafile.load(path)
    assert found["a"].tolist() == [1.0, 2.0] and found["b"] == ["x", "y"] and found["c"].tolist() == [1, 2]
    np.savez(path, a=np.array([{}, {}], dtype=object), b=np.arange(2.0))
    found = datafile.load(path)
    assert "pickled Python objects, which are not loaded" in found["a"].why and found["b"].tolist() == [0.0, 1.0]


def test_arrays_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "some.npy"
    np.save(path, np.arange(6.0).reshape(3, 2))
    columns = datafile.load(path)
    assert columns["#1"].shape == (3, 2)
    assert datafile.fill(columns, ["e"], {}, path, "f(e)")[0] is columns["#1"]
    with pytest.raises(BatchproofError, match="holds 1 array without a name, and f takes a, b: save them by name"):
        datafile.fill(columns, ["a", "b"], {}, path, "f")
    named = np.zeros(3, dtype=[("pred", "f8"), ("real", "i4")])
    np.save(path, named)
    assert {name: column.dtype for name, column in datafile.load(path).items()} == {
        "pred": torch.float64,
        "real": torch.int32,
    }


def test_values_between_tabs(tmp_path: Path) -> None:
    (tmp_path / "some.tsv").write_text("pred\treal, in m\n1\t0.5\n2\t1.5\n")
    columns = datafile.load(tmp_path / "some.tsv")
    assert columns["pred"].tolist() == [1, 2] and columns["real, in m"].tolist() == [0.5, 1.5]
    (tmp_path / "some.tsv").write_text("pred,real\n1,2\n")
    with pytest.raises(BatchproofError, match=r"must be separated by '\\t', not ','"):
        datafile.load(tmp_path / "some.tsv")
    refused(tmp_path, "pred\treal\n1\t2\n", "must be separated by ','", "or name the file .tsv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("pred,real\n1,2\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("pred,real\n1,2\n".encode("utf-16-le"), "is UTF-16: save it as UTF-8"),
        ("pred,real\n1,2\n".encode("utf-32"), "is UTF-32: save it as UTF-8"),
        ("pred,préd\n1,2\n".encode("latin-1"), "is not UTF-8 (line 1): save it as UTF-8"),
        (bytes(range(256)) * 3, "is a binary file, not text"),
        (b"PK\x03\x04" + bytes(50), "is a zip archive (as Excel and npz files are), not text"),
        (b"PAR1" + bytes(50), "is a parquet file, not text"),
        (b"\x1f\x8b" + bytes(50), "is compressed by gzip, not text"),
    ],
)
def test_bytes_that_are_no_text_are_called_what_they_are(tmp_path: Path, content: bytes, message: str) -> None:
    refused(tmp_path, content, message)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_pickles_are_not_loaded(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"some.{ending}"
    np.save(tmp_path / "objects.npy", np.array([{}, 3], dtype=object))
    whole = (tmp_path / "objects.npy").read_bytes()
    for content, message in (
        (pickle.dumps([1]), "holds pickled Python objects, which are not loaded"),
        (whole, "holds pickled Python objects, which are not loaded"),
        (b"hello", f"is no .{ending} file"),
        (b"", "is broken: "),
    ):
        path.write_bytes(content)
        with pytest.raises(BatchproofError, match=re.escape(message)):
            datafile.load(path)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(BatchproofError, match=r"is a folder: name one file; it holds no \.csv, "):
        datafile.load(tmp_path)
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BatchproofError, match=r"name one file, such as .*scores\.csv"):
        datafile.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("pred,real\n1,2\nnan,3\n", "pred is NaN in row 2, line 3 of some.csv"),
        ("pred,real\n\n1,2\n\n5,\nnan,1\n,2\n", "pred is NaN in row 3, line 6 of some.csv, and 1 more"),
        ("pred,real\n1.5,2\n3,inf\n", "real is infinite in row 2, line 3 of some.csv"),
        ('pred,real,say\n1.5,2,"a\nb"\n3,nan,c\n', "real is NaN in row 2 of some.csv"),
        ("pred,real\n1.5,2\n3,1\n", None),
    ],
)
def test_the_first_row_that_is_not_finite(tmp_path: Path, text: str, where: str | None) -> None:
    assert datafile.not_finite(csv(tmp_path, text), tmp_path / "some.csv") == where


def test_a_row_of_many_numbers_that_is_not_finite(tmp_path: Path) -> None:
    values = {"x": torch.tensor([[1.0, 2.0], [1.0, torch.nan]])}
    assert datafile.not_finite(values, tmp_path / "some.npz") == "x is NaN in row 2 of some.npz"


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    refused(tmp_path, "a,b\n1,2\n", 'pip install "batchproof[data]"')
