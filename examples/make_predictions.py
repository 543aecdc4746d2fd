"""The folder predictions: the diabetes predictions as parquet, with the patients, a file for each of four studies.

The patients come in the order of their age, as data is seldom shuffled, and the studies differ in size. Needs pyarrow.
A path as the only argument writes there instead.
"""

import csv
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
#: Patients of each file.
SIZES = (30, 200, 180, 32)


def columns(name):
    with (HERE / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows] for key in rows[0]}


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "predictions"
    folder.mkdir(exist_ok=True)
    patients, predictions = columns("diabetes.csv"), columns("diabetes_predictions.csv")
    assert patients["progress"] == predictions["real"], "the same patients in the same order"
    table = pa.table(
        {
            "pred": predictions["pred"],
            "real": predictions["real"],
            "sex": pa.array(map(int, patients["sex"]), pa.int8()),
            "decade": pa.array([int(age) // 10 * 10 for age in patients["age"]], pa.int8()),
        }
    ).sort_by("decade")
    start = 0
    for number, size in enumerate(SIZES):
        pq.write_table(table.slice(start, size), folder / f"study-{number}.parquet")
        start += size


if __name__ == "__main__":
    main()
