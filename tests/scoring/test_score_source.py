"""Data read in pieces: the same rows as pyarrow, numpy and torch read, whatever the file, and in bounded memory."""

from __future__ import annotations

import gzip
import pickle
import random
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, dataset, feather, parquet

from batchproof.scoring import Piece, Source, open_source
from batchproof.scoring.blocks import BLOCK_ROWS, PART_ROWS, type_in_words
from batchproof.scoring.types import common_type

ROWS = 1000


def scores(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """Predictions as people have them: numbers of several types, groups, an embedding in each row."""
    draw = np.random.default_rng(seed)
    return pa.table(
        {
            "pred": draw.standard_normal(rows, dtype="float32"),
            "real": draw.standard_normal(rows),
            "label": draw.integers(0, 9, rows).astype("int16"),
            "hit": draw.random(rows) < 0.5,
            "user": pa.array([f"user {number}" for number in draw.integers(0, 9, rows)]),
            "embedding": pa.FixedSizeListArray.from_arrays(draw.standard_normal(rows * 3), 3),
        }
    )


def write(table: pa.Table, path: Path, group: int = 300) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=group)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, chunksize=group)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, group)
    else:
        csv.write_csv(table, path, csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ","))
    return path


def rows_of(source: Source, columns: Sequence[str], keys: Sequence[str] = (), nulls: str = "error") -> dict[str, Any]:
    """All rows: tensors of columns by name, values of keys as lists in the same order."""
    source = pickle.loads(pickle.dumps(source))  # as a worker has it
    blocks = [block for piece in source.pieces for block in source.read(piece, columns, keys, nulls)]
    assert all(len(tensor) == block.rows for block in blocks for tensor in block.tensors.values())
    assert all(len(key) == block.rows <= BLOCK_ROWS for block in blocks for key in block.keys)
    found: dict[str, Any] = {name: torch.cat([block.tensors[name] for block in blocks]) for name in columns}
    for place, name in enumerate(keys):
        found[name + " (key)"] = [value for block in blocks for value in block.keys[place].to_pylist()]
    found["dropped"] = sum(block.dropped for block in blocks)
    found["nan"] = sum(block.not_a_number for block in blocks)
    return found


def assert_same(found: dict[str, Any], table: pa.Table, numbers: Sequence[str], keys: Sequence[str] = ()) -> None:
    for name in numbers:
        expected = torch.tensor(table[name].to_pylist(), dtype=found[name].dtype)
        assert torch.equal(found[name], expected), name
    for name in keys:
        assert found[name + " (key)"] == table[name].to_pylist(), name


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("ending", ["parquet", "feather", "arrow"])
def test_a_folder_holds_the_rows_of_its_files(tmp_path: Path, ending: str) -> None:
    tables = [scores(ROWS + number, number) for number in range(3)]
    for number, table in enumerate(tables):
        write(table, tmp_path / f"{number}.{ending}")
    whole = pa.concat_tables(tables)
    numbers = ["pred", "real", "label", "hit", "embedding"]
    source = open_source(tmp_path)
    found = rows_of(source, numbers, ["user", "label"])
    assert_same(found, whole, numbers, ["user", "label"])
    assert {name: found[name].dtype for name in numbers} == {
        "pred": torch.float32,
        "real": torch.float64,
        "label": torch.int16,
        "hit": torch.bool,
        "embedding": torch.float64,
    }
    assert source.columns == {
        "pred": "float32",
        "real": "float64",
        "label": "int16",
        "hit": "bool",
        "user": "text",
        "embedding": "lists of 3 float64",
    }
    assert source.title == str(tmp_path)
    if ending == "parquet":
        assert [piece.part for piece in source.pieces[:5]] == [
            *(f"row group {group}" for group in range(4)),
            "row group 0",
        ]
        assert [piece.rows for piece in source.pieces[:5]] == [300, 300, 300, 100, 300]
    else:
        assert [(piece.file, piece.part) for piece in source.pieces] == [
            (str(tmp_path / f"{number}.{ending}"), "") for number in range(3)
        ]


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz"])
def test_text_files_hold_the_numbers_that_pyarrow_reads(tmp_path: Path, ending: str) -> None:
    table = scores().drop_columns("embedding")
    for number in range(2):
        path = write(table, tmp_path / f"{number}.{ending.removesuffix('.gz')}")
        if ending.endswith(".gz"):
            (tmp_path / f"{number}.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    read = csv.read_csv(
        tmp_path / f"0.{ending}", parse_options=csv.ParseOptions(delimiter="\t" if ending == "tsv" else ",")
    )
    numbers = ["pred", "real", "label", "hit"]
    found = rows_of(open_source(str(tmp_path / "*")), numbers, ["user"])
    assert_same(found, pa.concat_tables([read, read]), numbers, ["user"])
    assert found["label"].dtype is torch.int64 and found["pred"].dtype is torch.float64


def test_names_of_folders_are_columns(tmp_path: Path) -> None:
    table = scores()
    dataset.write_dataset(
        table.drop_columns("embedding"),
        tmp_path,
        format="parquet",
        partitioning=dataset.partitioning(pa.schema([("user", pa.string()), ("label", pa.int16())]), flavor="hive"),
    )
    expected = dataset.dataset(tmp_path, partitioning="hive").to_table()
    for data in (tmp_path, dataset.dataset(tmp_path, partitioning="hive")):
        found = rows_of(open_source(data), ["pred", "label"], ["user", "label"])
        seen = sorted(zip(found["pred"].tolist(), found["label"].tolist(), found["user (key)"], found["label (key)"]))
        told = expected["label"].to_pylist()
        assert seen == sorted(zip(expected["pred"].to_pylist(), told, expected["user"].to_pylist(), told))
    inside = next(tmp_path.glob("user=*"))
    assert "user" not in open_source(inside).columns and "user" in open_source(f"{tmp_path}/user=*").columns


def test_folders_alone_tell_the_groups(tmp_path: Path) -> None:
    for user, rows in (("a b", 3), ("__HIVE_DEFAULT_PARTITION__", 2)):
        write(scores(rows), tmp_path / f"user={user}" / "some.parquet")
    found = rows_of(open_source(tmp_path), [], ["user"])
    assert found["user (key)"] == [None, None, "a b", "a b", "a b"]


def test_only_the_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    """The bytes of another column are broken: who reads it, sees it."""
    path = tmp_path / "some.parquet"
    table = pa.table({"pred": np.arange(1000.0), "other": np.arange(1000.0) + 7})
    parquet.write_table(table, path, compression="none", use_dictionary=False)
    column = parquet.ParquetFile(path).metadata.row_group(0).column(1)
    content = bytearray(path.read_bytes())
    start = column.data_page_offset
    content[start : start + 20] = b"\xff" * 20
    path.write_bytes(content)
    source = open_source(path)
    assert torch.equal(rows_of(source, ["pred"])["pred"], torch.arange(1000.0, dtype=torch.float64))
    with pytest.raises(Exception, match=r"some\.parquet, row group 0 cannot be read"):
        rows_of(source, ["other"])


def test_numbers_are_views_of_what_was_read(tmp_path: Path) -> None:
    table = pa.table({"pred": np.arange(10, dtype="float32"), "label": np.arange(10, dtype="int32")})
    source = open_source(table)
    (block,) = source.read(source.pieces[0], ["pred", "label"])
    for name, tensor in block.tensors.items():
        assert tensor.data_ptr() == table[name].chunk(0).buffers()[1].address


def test_files_of_several_types_become_one(tmp_path: Path) -> None:
    first = pa.table({"a": pa.array([1, 2], pa.int32()), "b": pa.array([1, 2], pa.float32()), "c": [1, 2]})
    second = pa.table({"a": pa.array([2**40], pa.int64()), "b": pa.array([0.1], pa.float64()), "c": [0.5]})
    parquet.write_table(first, tmp_path / "1.parquet")
    parquet.write_table(second, tmp_path / "2.parquet")
    source = open_source(tmp_path)
    assert source.columns == {"a": "int64", "b": "float64", "c": "float64"}
    for piece in source.pieces:
        (block,) = source.read(piece, ["a", "b", "c"])
        assert [tensor.dtype for tensor in block.tensors.values()] == [torch.int64, torch.float64, torch.float64]
    found = rows_of(source, ["a", "b", "c"])
    assert [found[name].tolist() for name in "abc"] == [[1, 2, 2**40], [1, 2, 0.1], [1, 2, 0.5]]


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("int8", "int32", "int32"),
        ("int16", "float32", "float32"),
        ("int32", "float32", "float64"),  # float32 holds no whole numbers from 2**24 on
        ("int64", "float32", "float64"),
        ("int64", "uint64", "int64"),
        ("float16", "float32", "float32"),
        ("null", "int8", "int8"),
        ("decimal", "int8", "float64"),
        ("string", "large_string", "text"),
        ("string", "int8", None),
        ("bool", "int8", None),
        ("categories", "string", "text"),
        ("list", "large list", "lists of float64"),
        ("timestamp", "date", None),
        ("timestamp", "int64", None),
    ],
)
def test_the_type_of_two(one: str, other: str, both: str | None) -> None:
    kinds = {
        "decimal": pa.decimal128(9, 2),
        "categories": pa.dictionary(pa.int8(), pa.string()),
        "list": pa.list_(pa.int32()),
        "large list": pa.large_list(pa.float64()),
        "timestamp": pa.timestamp("ns"),
        "date": pa.date32(),
        "bool": pa.bool_(),
    }
    pair = [kinds.get(name) or getattr(pa, name)() for name in (one, other)]
    for found in (common_type(*pair), common_type(*reversed(pair))):
        assert (None if found is None else type_in_words(found)) == both


def test_a_column_of_text_that_begins_with_whole_numbers(tmp_path: Path) -> None:
    """Beyond the block from which pyarrow takes the types: read as what all of it is."""
    rows = 400_000
    lines = ["pred,user,part,note"] + [f'{number % 10},{number % 7},,"a\nb"' for number in range(rows)]
    lines += ["0.25,x1,2,c"]
    path = tmp_path / "some.csv"
    path.write_text("\n".join(lines))
    assert path.stat().st_size > 2**22
    source = open_source(path)
    assert source.columns == {"pred": "float64", "user": "text", "part": "int64", "note": "text"}
    found = rows_of(source, ["pred"], ["user", "part"])
    assert found["pred"][-2:].tolist() == [(rows - 1) % 10, 0.25] and len(found["pred"]) == rows + 1
    assert found["user (key)"][-1] == "x1" and found["part (key)"][-2:] == [None, 2]


def test_groups_of_a_csv_may_be_text_in_some_files(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("pred, user\n1,007\n")
    (tmp_path / "2.csv").write_text("pred,user \n2,x\n")
    found = rows_of(open_source(tmp_path), ["pred"], ["user"])
    assert found["pred"].tolist() == [1, 2] and found["user (key)"] == ["007", "x"]


def test_missing_is_one_thing_and_not_a_number_another(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("pred,real,user\n1,2,a\nnan,1,b\n,3,c\nNA,nan,d\n4,nan,\n")
    found = rows_of(open_source(tmp_path), ["pred", "real"], ["user"], nulls="drop")
    assert found["dropped"] == 2 and found["nan"] == 2
    assert found["pred"].isnan().tolist() == [False, True, False] and found["user (key)"] == ["a", "b", ""]
    table = pa.table({"e": [[1.0, float("nan")], [1.0, 2.0], [float("nan")] * 2], "p": [1.0, 2.0, float("nan")]})
    assert rows_of(open_source(table), ["p", "e"])["nan"] == 2


def test_nulls_are_dropped_where_they_count(tmp_path: Path) -> None:
    table = pa.table(
        {
            "pred": pa.array([1, None, 3, 4, 5, 6], pa.int64()),
            "real": [0.5, 1.5, 2.5, None, float("nan"), 5.5],
            "user": ["a", "b", None, "d", "e", "f"],
            "inside": [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, None]],
            "unasked": pa.nulls(6),
        }
    )
    path = write(table, tmp_path / "some.parquet", group=2)
    for data in (path, table):
        found = rows_of(open_source(data), ["pred", "real"], ["user"], nulls="drop")
        assert found["pred"].tolist() == [1, 3, 5, 6] and found["pred"].dtype is torch.int64
        assert found["user (key)"] == ["a", None, "e", "f"]
        assert (found["dropped"], found["nan"]) == (2, 1)
        found = rows_of(open_source(data), ["inside"], nulls="drop")
        assert found["inside"].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]] and found["dropped"] == 1
        assert len(rows_of(open_source(data), ["unasked"], nulls="drop")["unasked"]) == 0


def test_a_block_without_rows_has_the_shape_of_others() -> None:
    table = pa.table({"e": pa.array([[1.0, 2.0], None], pa.list_(pa.float32())), "p": pa.array([None, 1])})
    source = open_source(table)
    (block,) = source.read(source.pieces[0], ["e", "p"], nulls="drop")
    assert block.rows == 0 and block.dropped == 2
    assert block.tensors["e"].shape == (0, 2) and block.tensors["e"].dtype is torch.float32
    assert block.tensors["p"].dtype is torch.int64


def test_empty_files_among_others(tmp_path: Path) -> None:
    write(scores(0).select(["pred"]), tmp_path / "a.parquet")  # and other columns than the rest
    write(scores(5), tmp_path / "b.parquet")
    assert len(rows_of(open_source(tmp_path), ["real"])["real"]) == 5
    for name, text in (("a", ""), ("b", "pred,real"), ("c", "pred,real\n"), ("d", "pred,real\n1,2\n"), ("e", "\n\n")):
        (tmp_path / f"{name}.csv").write_text(text)
    found = rows_of(open_source(f"{tmp_path}/*.csv"), ["pred", "real"])
    assert found["pred"].tolist() == [1] and found["real"].tolist() == [2]


def test_what_lies_beside_data_is_no_data(tmp_path: Path) -> None:
    write(scores(5), tmp_path / "part-0.parquet")
    (tmp_path / "_temporary").mkdir()
    write(scores(5), tmp_path / "_temporary" / "part-0.parquet")
    for name in ("_SUCCESS", ".part-0.parquet.crc", "README.md", "dataset_info.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "part-1").write_bytes((tmp_path / "part-0.parquet").read_bytes())  # as some engines name them
    assert len(rows_of(open_source(tmp_path), ["pred"])["pred"]) == 10


def test_several_paths_are_one_source(tmp_path: Path) -> None:
    paths = [write(scores(5, number), tmp_path / f"{number}.parquet") for number in range(5)]
    source = open_source(paths)
    assert len(rows_of(source, ["pred"])["pred"]) == 25
    assert source.title == f"{paths[0]} and 4 more"
    assert open_source(source) is source


def test_pieces_are_read_in_threads(tmp_path: Path) -> None:
    for number in range(4):
        write(scores(ROWS, number), tmp_path / f"{number}.parquet", group=50)
    source = open_source(tmp_path)

    def total(piece: Piece) -> float:
        return sum(block.tensors["real"].sum().item() for block in source.read(piece, ["real"]))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(total, source.pieces)) == [total(piece) for piece in source.pieces]


def test_a_dot_in_a_name_is_part_of_it(tmp_path: Path) -> None:
    table = pa.table({"a": [{"b": 1}, {"b": 2}], "a.b": [3, 4], "c.d": [5, 6]})
    path = write(table, tmp_path / "some.parquet")
    assert rows_of(open_source(path), ["c.d"])["c.d"].tolist() == [5, 6]
    assert rows_of(open_source(path), ["a.b"])["a.b"].tolist() == [3, 4]


def test_a_worker_elsewhere_opens_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        write(scores(3, number), tmp_path / f"{number:03}.parquet")
    monkeypatch.chdir(tmp_path)
    source = open_source("*.parquet")
    assert source.pieces[7].file == "007.parquet"
    data = pickle.dumps(source)
    assert len(data) < 60_000
    monkeypatch.chdir("/")
    there = pickle.loads(data)
    (block,) = there.read(there.pieces[7], ["pred"])
    assert block.tensors["pred"].tolist() == scores(3, 7)["pred"].to_pylist()


MEMORY = """
import sys
from pathlib import Path
from batchproof.scoring import open_source
import torch
def peak():  # not ru_maxrss: a child begins with its parent's
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
warm = open_source(sys.argv[1])
next(warm.read(warm.pieces[0], ["e"]))
before = peak()
source = open_source(sys.argv[2])
rows = sum(block.rows for piece in source.pieces for block in source.read(piece, ["e"]))
print(rows, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("ending", ["parquet", "npz", "feather"])
def test_memory_is_bounded(tmp_path: Path, ending: str) -> None:
    """250 MB in one row group: a block has 32 MB at most, and few of them are held."""
    rows, width = 60_000, 1024
    values = np.random.default_rng(0).standard_normal((rows, width), dtype="float32")
    for name, part in (("small", values[:100]), ("large", values)):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), width)
        if ending == "parquet":
            parquet.write_table(
                pa.table({"e": lists}),
                tmp_path / "large.parquet" if name == "large" else tmp_path / "small.parquet",
                row_group_size=rows,
            )
        elif ending == "npz":
            np.savez(tmp_path / f"{name}.npz", e=part)
        else:
            feather.write_feather(pa.table({"e": lists}), tmp_path / f"{name}.feather", chunksize=4096)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / f"small.{ending}", tmp_path / f"large.{ending}"],
        capture_output=True,
        text=True,
        check=True,
    )
    read, more = map(int, done.stdout.split())
    assert read == rows
    assert more < 200e6, f"{more / 1e6:.0f} MB"


# ------------------------------------------------------------------ other columns of pyarrow's


def test_columns_of_every_kind() -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12.0).reshape(2, 2, 3))
    table = pa.table(
        {
            "u": pa.array([1, 2**16 - 1], pa.uint16()),
            "h": pa.array(np.array([1, 2], "float16")),
            "money": pa.array([1, 2], pa.decimal128(9, 2)),
            "number": pa.array([7, 9]).dictionary_encode(),
            "text": pa.array(["x", "y"]).dictionary_encode(),
            "nested": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
            "tensor": tensors,
            "when": pa.array([1, 2], pa.timestamp("s")),
            "struct": [{"a": 1}, {"a": 2}],
            "metrics.pred": [1.0, 2.0],
        }
    )
    source = open_source(table)
    found = rows_of(source, ["u", "h", "money", "number", "nested", "tensor", "metrics.pred"], ["text", "when"])
    assert found["u"].tolist() == [1, 2**16 - 1] and found["u"].dtype is torch.int32
    assert found["h"].dtype is torch.float16 and found["money"].dtype is torch.float64
    assert found["number"].tolist() == [7, 9] and found["nested"].shape == (2, 2, 2)
    assert torch.equal(found["tensor"], torch.arange(12.0, dtype=torch.float64).reshape(2, 2, 3))
    assert found["text (key)"] == ["x", "y"]
    assert set(source.not_numbers) == {"text", "when", "struct"}
    assert source.columns["nested"] == "lists of 2 × 2 int64"


def test_tables_are_cut_into_pieces() -> None:
    rows = PART_ROWS + 10
    table = pa.table({"x": np.arange(rows)})
    table = pa.concat_tables([table.slice(0, 1000), table.slice(1000)])
    source = open_source(table)
    assert [piece.part for piece in source.pieces] == ["rows 1 to 1,048,576", "rows 1,048,577 to 1,048,586"]
    assert torch.equal(rows_of(source, ["x"])["x"], torch.arange(rows))


def test_datasets_of_pyarrow(tmp_path: Path) -> None:
    tables = [scores(50, number) for number in range(2)]
    paths = [write(table, tmp_path / f"{number}.parquet", group=20) for number, table in enumerate(tables)]
    whole = pa.concat_tables(tables)
    found = dataset.dataset(paths)
    source = open_source(found)
    assert [piece.rows for piece in source.pieces] == [20, 20, 10] * 2
    assert_same(rows_of(source, ["pred"], ["user"]), whole, ["pred"], ["user"])
    assert_same(rows_of(open_source(dataset.dataset(whole)), ["pred"]), whole, ["pred"])
    source = open_source(found.filter(dataset.field("label") > 4))
    rows = [block for piece in source.pieces for block in source.read(piece, ["label"])]
    assert torch.cat([block.tensors["label"] for block in rows]).min() == 5
    with pytest.raises(Exception, match="a filtered dataset cannot be sent"):
        pickle.dumps(source)
    fragment = next(found.get_fragments()).subset(row_group_ids=[1, 2])
    source = open_source(dataset.FileSystemDataset([fragment], found.schema, found.format))
    assert_same(rows_of(source, ["pred"]), tables[0].slice(20), ["pred"])
    write(tables[0].drop_columns("embedding"), tmp_path / "some.csv")
    source = open_source(dataset.dataset(tmp_path / "some.csv", format="csv"))
    assert source.pieces[0].rows is None and len(rows_of(source, ["pred"])["pred"]) == 50
    narrow = dataset.dataset(paths, schema=pa.schema([("pred", pa.float64()), ("user", pa.string())]))
    assert rows_of(open_source(narrow), ["pred"])["pred"].dtype is torch.float64
    assert list(open_source(narrow).columns) == ["pred", "user"]


# ------------------------------------------------------------------ arrays


def test_files_of_arrays(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for number, save in enumerate((np.savez, np.savez_compressed)):
        arrays = {
            "pred": draw.standard_normal((5, 3)),
            "label": np.arange(5, dtype=("uint16", "int64")[number]),
            "user": np.array(list("abcde")),
            "across": np.asfortranarray(np.arange(10.0).reshape(5, 2)),
            "big": np.arange(5, dtype=">i4"),
        }
        save(tmp_path / f"{number}.npz", classes=np.array(3), **arrays)
    source = open_source(tmp_path)
    whole = [np.load(piece.file) for piece in source.pieces]
    found = rows_of(source, ["pred", "label", "across", "big"], ["user", "big"])
    for name in ("pred", "label", "across", "big"):
        assert found[name].tolist() == np.concatenate([file[name] for file in whole]).tolist()
    assert found["big (key)"] == [0, 1, 2, 3, 4] * 2
    assert found["user (key)"] == list("abcde") * 2 and found["label"].dtype is torch.int64
    assert source.columns["pred"] == "lists of 3 float64" and "classes" in source.unreadable


def test_arrays_of_one_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(3, 2))
    assert rows_of(open_source(tmp_path / "a.npy"), ["#1"])["#1"].tolist() == [[0, 1], [2, 3], [4, 5]]
    np.save(tmp_path / "a.npy", np.array([(1.5, 2), (2.5, 3)], dtype=[("pred", "f4"), ("real", "i8")]))
    assert rows_of(open_source(tmp_path / "a.npy"), ["pred"], ["real"])["real (key)"] == [2, 3]
    for zipped in (True, False):
        values = {"pred": torch.tensor([1, float("nan")], dtype=torch.bfloat16), "user": ["a", "b"]}
        torch.save(values, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        found = rows_of(open_source(tmp_path / "a.pt"), ["pred"], ["user"])
        assert found["pred"].dtype is torch.bfloat16 and found["nan"] == 1 and found["user (key)"] == ["a", "b"]


def test_arrays_have_one_type_in_all_files(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", x=np.array([1, 2], "int32"), u=np.array([b"a", b"bc"]), y=np.array([1.5, 2], "float32")
    )
    np.savez(tmp_path / "b.npz", x=np.array([3], ">i8"), u=np.array(["long"]), y=np.array([0.1]))
    source = open_source(tmp_path)
    assert source.columns == {"x": "int64", "u": "text", "y": "float64"}
    blocks = [block for piece in source.pieces for block in source.read(piece, ["x", "y"], ["x", "u"])]
    assert [str(key.type) for block in blocks for key in block.keys] == ["int64", "string"] * 2
    assert {tensor.dtype for block in blocks for tensor in block.tensors.values()} == {torch.int64, torch.float64}
    assert rows_of(source, ["x", "y"], ["u"])["u (key)"] == ["a", "bc", "long"]
    torch.save({"x": torch.tensor([1, 2], dtype=torch.int16), "y": torch.ones(2).bfloat16()}, tmp_path / "a.pt")
    torch.save({"x": [3, 4], "y": torch.ones(2)}, tmp_path / "b.pt")
    found = rows_of(open_source(f"{tmp_path}/*.pt"), ["x", "y"], ["x"])
    assert found["x"].tolist() == found["x (key)"] == [1, 2, 3, 4] and found["x"].dtype is torch.int64
    assert found["y"].dtype is torch.float32


def test_lists_that_begin_with_nulls(tmp_path: Path) -> None:
    table = pa.table({"e": pa.array([None] * 3000 + [[1.0, 2.0]] * 3, pa.list_(pa.float32()))})
    for data in (table, write(table, tmp_path / "some.parquet", group=100)):
        source = open_source(data)
        assert source.columns == {"e": "lists of 2 float32"}
        assert rows_of(source, ["e"], nulls="drop")["e"].tolist() == [[1, 2]] * 3


def test_arrays_by_name() -> None:
    weight = torch.ones(3, requires_grad=True)
    source = open_source(
        {"pred": weight * 2, "real": [1, 2, 3], "user": ["a", "b", "c"], "u": np.array([1, 2, 3], "u4")}
    )
    (block,) = source.read(source.pieces[0], ["pred", "real", "u"], ["user"])
    assert block.tensors["pred"].tolist() == [2, 2, 2] and not block.tensors["pred"].requires_grad
    assert block.tensors["real"].dtype is torch.int64 and block.tensors["u"].dtype is torch.int64
    assert block.keys[0].to_pylist() == ["a", "b", "c"]
    assert list(open_source((torch.ones(2), np.ones(2))).columns) == ["#1", "#2"]
    assert list(open_source(np.zeros(3, dtype=[("pred", "f8"), ("real", "i4")])).columns) == ["pred", "real"]


# ------------------------------------------------------------------ other libraries


def test_frames_of_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "pred": [1.5, 2.5, float("nan")],
            "label": [1, 2, 3],
            "user": pandas.Categorical(["a", "b", "a"]),
            3: [True, False, True],
            "mixed": [1, "x", 2.5],
        },
        index=[7, 7, 9],
    )
    source = open_source(frame)
    found = rows_of(source, ["pred", "label", "3"], ["user"], nulls="drop")
    assert found["pred"].tolist() == [1.5, 2.5] and found["dropped"] == 1
    assert found["user (key)"] == ["a", "b"] and found["3"].tolist() == [True, False]
    assert "mixed" in source.unreadable
    frame.drop(columns=["mixed", 3]).to_parquet(tmp_path / "some.parquet")
    written = rows_of(open_source(tmp_path / "some.parquet"), ["pred", "label"], nulls="drop")
    assert torch.equal(written["pred"], found["pred"]) and torch.equal(written["label"], found["label"])
    (tmp_path / "some.csv").write_text(frame.to_csv(index=False))
    again = rows_of(open_source(tmp_path / "some.csv"), ["pred", "label"], nulls="drop")
    assert torch.equal(
        again["pred"],
        pandas.read_csv(tmp_path / "some.csv").dropna()["pred"].pipe(lambda s: torch.tensor(s.to_numpy())),
    )


def test_frames_of_polars(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {"pred": [1.5, 2.5, None], "user": ["a", "b", "c"], "label": [1, 2, 3], "e": [[1.0, 2.0]] * 3},
        schema_overrides={"user": polars.Categorical, "label": polars.UInt32, "e": polars.Array(polars.Float32, 2)},
    )
    frame.write_parquet(tmp_path / "some.parquet")
    frame.write_ipc(tmp_path / "some.feather")
    for data in (frame, tmp_path / "some.parquet", tmp_path / "some.feather"):
        found = rows_of(open_source(data), ["pred", "label", "e"], ["user"], nulls="drop")
        assert found["pred"].tolist() == [1.5, 2.5] and found["user (key)"] == ["a", "b"]
        assert found["e"].dtype is torch.float32 and found["e"].shape == (2, 2)
        assert found["label"].tolist() == [1, 2]
    with pytest.raises(Exception, match="LazyFrame of polars in pieces: collect it"):
        open_source(frame.lazy())


def test_datasets_of_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "pred": datasets.Value("float32"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "picture": datasets.Array2D((2, 3), "float32"),
            "user": datasets.Value("string"),
        }
    )
    rows = {
        "pred": [float(number) for number in range(10)],
        "label": [number % 2 for number in range(10)],
        "picture": [[[number] * 3] * 2 for number in range(10)],
        "user": [f"u{number}" for number in range(10)],
    }
    data = datasets.Dataset.from_dict(rows, features=features)
    chosen = data.shuffle(seed=3).filter(lambda row: row["label"] == 1)
    found = rows_of(open_source(chosen), ["pred", "label", "picture"], ["user"])
    assert found["pred"].tolist() == chosen["pred"][:] and found["user (key)"] == chosen["user"][:]
    assert found["picture"].shape == (5, 2, 3) and set(found["label"].tolist()) == {1}
    data.save_to_disk(tmp_path / "saved")
    again = rows_of(open_source(tmp_path / "saved"), ["pred", "picture"])
    assert again["pred"].tolist() == rows["pred"] and again["picture"].shape == (10, 2, 3)
    with pytest.raises(Exception, match="holds the splits 'train' and 'test': give one of them"):
        open_source(data.train_test_split(0.5))
    with pytest.raises(Exception, match="can be read only once"):
        open_source(data.to_iterable_dataset())


def test_random_tables_as_pyarrow_reads_them(tmp_path: Path) -> None:
    """Row groups, nulls and chunks anywhere: what is read is what ``to_table`` and ``drop_null`` give."""
    draw = random.Random(0)
    for trial in range(20):
        tables = []
        for _ in range(draw.randint(1, 4)):
            rows = draw.choice([0, 1, 7, 200])
            floats = pa.array(
                [draw.choice([draw.random(), None, float("nan")]) for _ in range(rows)],
                draw.choice([pa.float32(), pa.float64()]),
            )
            whole = pa.array(
                [draw.choice([draw.randint(-9, 9), None]) for _ in range(rows)], draw.choice([pa.int8(), pa.int64()])
            )
            pairs = pa.array([draw.choice([[1.0, 2.0], None]) for _ in range(rows)], pa.list_(pa.float64()))
            tables.append(
                pa.table({"f": floats, "w": whole, "p": pairs, "k": pa.array(list(map(str, range(rows))), pa.string())})
            )
        folder = tmp_path / str(trial)
        for number, table in enumerate(tables):
            write(table, folder / f"{number}.{draw.choice(['parquet'])}", group=draw.choice([1, 3, 100]))
        whole_table = pa.concat_tables(tables, promote_options="permissive")
        if not whole_table.num_rows:
            continue
        columns = draw.sample(["f", "w", "p"], draw.randint(1, 3))
        left = whole_table.select([*columns, "k"]).drop_null()
        for data in (folder, whole_table):
            found = rows_of(open_source(data), columns, ["k"], nulls="drop")
            assert found["k (key)"] == left["k"].to_pylist()
            assert found["dropped"] == whole_table.num_rows - left.num_rows
            for name in columns:
                told = left[name].to_pylist()
                assert torch.equal(
                    found[name].nan_to_num(77),
                    torch.tensor(told, dtype=found[name].dtype).reshape(found[name].shape).nan_to_num(77),
                )
