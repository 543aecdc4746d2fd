"""Data that cannot be scored as it is: one line says what is wrong, where, and what to do."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, feather, parquet

from batchproof import BatchproofError
from batchproof.scoring import csv_types as csv_types_module
from batchproof.scoring import open_source


def read_all(data: Any, columns: list[str], keys: list[str] | None = None, nulls: str = "error") -> list[Any]:
    source = open_source(data)
    return [block for piece in source.pieces for block in source.read(piece, columns, keys or [], nulls)]


def refused(data: Any, *words: str, columns: tuple[str, ...] = ("pred",), keys: tuple[str, ...] = ()) -> None:
    with pytest.raises(BatchproofError) as caught:
        read_all(data, list(columns), list(keys))
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    for word in words:
        assert word in message, message


def save(path: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), path, row_group_size=2)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abc":
        save(tmp_path / f"{name}.parquet", pred=[1.0, 2.0, 3.0], real=[1.0, 2.0, 3.0])
    return tmp_path


# ------------------------------------------------------------------ columns


def test_a_missing_column(folder: Path) -> None:
    refused(
        folder, f"{folder} has no column prediction: did you mean pred? it has pred and real", columns=("prediction",)
    )
    refused(folder, "has no column user: it has pred and real", keys=("user",))
    wide = pa.table({f"feature {number}": [1.0] for number in range(500)})
    refused(wide, "feature 19 and 480 more")


def test_a_column_that_a_later_file_has_not(folder: Path) -> None:
    save(folder / "b.parquet", real=[1.0])
    refused(folder, f"{folder}/b.parquet has no column pred, which {folder}/a.parquet has", "leave the file out")
    assert len(read_all(folder, ["real"])) == 5
    save(folder / "b.parquet", pred=[1.0], real=[1.0], more=[1.0])
    assert len(read_all(folder, ["pred"])) == 5
    refused(folder, f"{folder}/a.parquet has no column more, which {folder}/b.parquet has", columns=("more",))


def test_another_type_in_a_later_file(folder: Path) -> None:
    save(folder / "b.parquet", pred=["1.0"], real=[1.0])
    message = f"pred holds float64 in {folder}/a.parquet and text in {folder}/b.parquet: write it in one type"
    refused(folder, message)
    refused(folder, message, columns=("real",), keys=("pred",))
    assert len(read_all(folder, ["real"])) == 5
    save(folder / "b.parquet", pred=[True], real=[1.0])
    refused(folder, "float64 in", "bool in")
    for name, text in (("1", "pred\n1\n"), ("2", "pred\nmissing\n")):
        (folder / f"{name}.csv").write_text(text)
    refused(f"{folder}/*.csv", "pred holds int64 in", "and text in")


def test_whole_numbers_that_fit_no_common_type(tmp_path: Path) -> None:
    save(tmp_path / "a.parquet", pred=[0.5])
    save(tmp_path / "b.parquet", pred=[2**53 + 1])
    refused(
        tmp_path, "pred of", "b.parquet does not fit into float64, in which all files are read", "write it in one type"
    )
    np.savez(tmp_path / "a.npz", pred=np.array([0.5]))
    np.savez(tmp_path / "b.npz", pred=np.array([2**53 + 1]))
    refused(f"{tmp_path}/*.npz", "pred of", "b.npz has whole numbers too large for float64")
    refused(pa.table({"pred": pa.array([2**64 - 1], pa.uint64())}), "whole numbers beyond int64")


def test_text_is_no_number(folder: Path) -> None:
    refused(pa.table({"pred": ["a"]}), "the column pred holds text, not numbers")
    refused(pa.table({"pred": pa.array([1], pa.timestamp("s"))}), "the column pred holds timestamp[s], not numbers")
    refused({"pred": np.array(["a"])}, "the column pred holds text, not numbers")
    refused({"pred": np.array([{}])}, "pred holds Python objects")


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["pred", "pred"])
    refused(table, "two columns named 'pred'")
    feather.write_feather(table, tmp_path / "a.feather")
    refused(tmp_path, f"{tmp_path}/a.feather has two columns named 'pred'")
    (tmp_path / "a.csv").write_text("pred,pred \n1,2\n")
    refused(tmp_path / "a.csv", "a.csv has two columns named 'pred'")


# ------------------------------------------------------------------ rows


def test_a_null_is_named_with_its_file_and_row(folder: Path) -> None:
    save(folder / "b.parquet", pred=[1.0, 2.0, 3.0, None, None], real=[1.0] * 5)
    refused(folder, f"pred is null in row 4 of {folder}/b.parquet: leave such rows out with --nulls drop")
    refused(pa.table({"pred": [1, None]}), "pred is null in row 2 of the pyarrow Table")
    (folder / "a.csv").write_text("real,pred\n1,2\n\n2,\n")
    refused(folder / "a.csv", "pred is null in row 2, line 4 of")
    refused(pa.table({"pred": [[1.0, 2.0], [1.0, None]]}), "pred is null in row 2")
    refused(
        pa.table({"pred": pa.array([1.0, 2.0]), "real": [None, 1.0]}), "real is null in row 1", columns=("pred", "real")
    )
    refused(pa.table({"pred": pa.array([1.0] * 3_000_000 + [None])}), "row 3,000,001 of")
    with pytest.raises(BatchproofError, match="nulls must be 'error' or 'drop', not 'keep'"):
        read_all(folder / "a.parquet", ["pred"], nulls="keep")


def test_lists_of_several_lengths(tmp_path: Path) -> None:
    save(tmp_path / "a.parquet", pred=[[1.0, 2.0]] * 3)
    save(tmp_path / "b.parquet", pred=[[1.0, 2.0], [1.0, 2.0], [1.0, 2.0, 3.0]])
    refused(tmp_path, f"pred holds lists of different lengths: 2 in the first row, 3 in row 3 of {tmp_path}/b.parquet")
    save(tmp_path / "b.parquet", pred=[[1.0, 2.0, 3.0]] * 3)  # each piece alone is even
    refused(tmp_path, f"2 in the first row, 3 in row 1 of {tmp_path}/b.parquet; pad them to one length")
    refused(pa.table({"pred": [[[1], [2, 3]]]}), "pred holds lists of several lengths in a row")
    refused(pa.table({"pred": [None, [1, 2], [1]]}), "pred is null in row 1")
    with pytest.raises(BatchproofError, match="2 in the first row, 1 in row 3"):
        read_all(pa.table({"pred": [None, [1, 2], [1]]}), ["pred"], nulls="drop")
    np.savez(tmp_path / "a.npz", pred=np.ones((3, 2)))
    np.savez(tmp_path / "b.npz", pred=np.ones((3, 4)))
    refused(f"{tmp_path}/*.npz", "pred has rows of shape (2,) in", "and (4,) in")


def test_columns_of_several_lengths(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", pred=np.ones(3), real=np.ones(4), threshold=0.5)
    refused(
        tmp_path / "a.npz", "a.npz has another number of rows in each column: pred 3, real 4", columns=("pred", "real")
    )
    assert read_all(tmp_path / "a.npz", ["pred"])[0].rows == 3
    refused(tmp_path / "a.npz", "threshold of", "is a single number, and has no rows", columns=("threshold",))
    refused({"pred": torch.ones(3), "real": torch.ones(4)}, "different numbers of rows: pred 3, real 4")


def test_no_rows(tmp_path: Path) -> None:
    save(tmp_path / "a.parquet", pred=[])
    refused(tmp_path, f"{tmp_path} has no rows")
    (tmp_path / "a.csv").write_text("pred\n")
    refused(tmp_path / "a.csv", "a.csv has no rows")
    for data in (pa.table({"pred": []}), {"pred": []}, {}, torch.ones(0), pa.dataset.dataset(pa.table({"pred": []}))):
        refused(data, "has no rows")


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("ending", ["parquet", "feather", "arrow", "npz", "npy", "pt", "csv.gz"])
def test_a_file_that_was_cut_off(tmp_path: Path, ending: str) -> None:
    values = np.random.default_rng(0).standard_normal(100_000)
    table = pa.table({"pred": values})
    for name in "ab":
        path = tmp_path / f"{name}.{ending}"
        if ending == "parquet":
            parquet.write_table(table, path)
        elif ending == "feather":
            feather.write_feather(table, path)
        elif ending == "arrow":
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
        elif ending in ("npz", "npy"):
            np.savez(path, pred=values) if ending == "npz" else np.save(path, values)
        elif ending == "pt":
            torch.save({"pred": torch.from_numpy(values)}, path)
        else:
            with pa.CompressedOutputStream(path, "gzip") as out:
                csv.write_csv(table, out)
    content = path.read_bytes()
    for size in (0, 3, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        if ending == "csv.gz" and size == 0:
            continue  # an empty file
        refused(tmp_path, f"{tmp_path}/b.{ending}", columns=("#1",) if ending == "npy" else ("pred",))


def test_a_file_that_is_broken_inside(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(
        pa.table({"pred": np.random.default_rng(0).standard_normal(50_000)}), path, write_page_checksum=True
    )
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = os.urandom(2000)
    path.write_bytes(content)
    refused(tmp_path, f"{path}, row group", "could not verify page integrity, CRC", "write it again, or leave")


def test_a_csv_that_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("pred,real\n1,2\n3\n")
    refused(tmp_path, f"{path}, line 3: 1 values for 2 columns")
    path.write_text("pred;real\n1;2\n")
    refused(tmp_path, f"{path} has one column, 'pred;real': its values must be separated by ','")
    path.write_bytes("pred\n1\n".encode("utf-16"))
    refused(tmp_path, f"{path} is UTF-16: save it as UTF-8")
    path.write_bytes(b"pred,pr\xe9d\n1,2\n")
    refused(tmp_path, f"{path} is not UTF-8 (line 1): save it as UTF-8")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"pred,real\n1,2\n3\n"))
    refused(tmp_path / "b.csv.gz", "b.csv.gz: CSV parse error: Row #3: Expected 2 columns, got 1: 3")
    path.write_bytes(b"PAR1" + bytes(50))
    refused(tmp_path, f"{path} is a parquet file, not text")


def test_a_large_csv_that_changes_its_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not read twice, the row is named."""
    from batchproof.scoring import files

    path = tmp_path / "a.csv"
    path.write_text("pred\n" + "1\n" * 3_000_000 + "x\n")
    monkeypatch.setattr(files, "_READ_TWICE", 0)
    monkeypatch.setattr(csv_types_module, "_LARGE", 0)
    refused(path, f"{path}", "Row #3000002", "'x'")


def test_a_file_that_is_gone(folder: Path) -> None:
    source = open_source(folder)
    (folder / "b.parquet").unlink()
    with pytest.raises(BatchproofError, match=r"b\.parquet is gone: it was there when the files were listed"):
        list(source.read(source.pieces[2], ["pred"]))
    for ending, write in (
        ("npz", lambda path: np.savez(path, pred=np.ones(3))),
        ("csv", lambda path: path.write_text("pred\n1\n")),
    ):
        path = folder / f"a.{ending}"
        write(path)
        source = open_source(path)
        path.unlink()
        with pytest.raises(BatchproofError, match=rf"a\.{ending} is gone"):
            list(source.read(source.pieces[0], ["pred"]))


def test_a_file_that_is_written_meanwhile(folder: Path) -> None:
    source = open_source(folder)
    save(folder / "b.parquet", pred=[1.0])
    with pytest.raises(BatchproofError, match=r"b\.parquet has changed since the files were listed"):
        list(source.read(source.pieces[2], ["pred"]))


def test_files_of_several_kinds(folder: Path) -> None:
    (folder / "d.csv").write_text("pred\n1\n")
    refused(folder, f"{folder} holds files of several kinds, 1 csv and 3 parquet: name those that are meant")
    refused(folder, f"such as '{folder}/*.parquet'")
    assert len(read_all(f"{folder}/*.parquet", ["pred"])) == 6
    (folder / "d.csv").rename(folder / "d.xlsx")
    refused(folder, f"{folder}/d.xlsx: cannot read .xlsx files", f"'{folder}/*.parquet'")
    refused(folder / "d.xlsx", "cannot read .xlsx files; use .parquet, .feather, .csv")


def test_nothing_is_there(folder: Path) -> None:
    empty = folder / "empty"
    empty.mkdir()
    refused(empty, f"{empty} holds no data: no .parquet, .feather, .csv")
    refused(f"{folder}/*.csv", f"no file matches '{folder}/*.csv': {folder} holds a.parquet and 3 more")
    refused(f"{empty}/*.csv", f"{empty} is empty")
    refused(f"{folder}/none/*.csv", f"{folder}/none is no folder")
    refused(folder / "a.parqet", f"there is no file {folder}/a.parqet: did you mean {folder}/a.parquet?")
    refused(folder / "none" / "a.parquet", f"{folder}/none is no folder")
    refused([], "has no rows")
    (folder / "d.parquet").symlink_to(folder / "nowhere")
    refused(folder, "d.parquet is gone")


def test_what_is_no_data(folder: Path) -> None:
    refused(3, "cannot read int: give a path, a table of pyarrow, pandas or polars")
    refused(lambda: 0, "cannot read function")
    reader = pa.table({"pred": [1]}).to_reader()
    refused(reader, "a RecordBatchReader can be read only once")
    refused(pa.array([1]), "cannot read a Int64Array")
    refused({"pred": [[1], [1, 2]]}, "pred is no array")
    refused({"pred": pa.array([1, None])}, "pred has 1 null")
    refused(
        "s3://bucket/scores",
        "s3://bucket/scores is not on this machine",
        "pyarrow.dataset.dataset('s3://bucket/scores')",
    )


def test_without_pyarrow_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    refused(folder, re.escape("reading it needs pyarrow: pip install").replace("\\", ""))
