"""Writes diabetes.csv: what was measured on 442 patients, and how far their disease had come a year later.

Needs scikit-learn, which carries the data (Efron et al. 2004). A path as the only argument writes there instead.
"""

import csv
import sys
from pathlib import Path

from sklearn.datasets import load_diabetes


def main():
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("diabetes.csv")
    data = load_diabetes(scaled=False)
    with target.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*data.feature_names, "progress"])
        for inputs, progress in zip(data.data, data.target, strict=True):
            writer.writerow([f"{value:.5g}" for value in (*inputs, progress)])


if __name__ == "__main__":
    main()
