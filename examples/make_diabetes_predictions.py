"""Writes diabetes_predictions.csv: what a ridge regression says about each of 442 patients that it was not fitted on.

Needs scikit-learn, which carries the data. A path as the only argument writes there instead.
"""

import csv
import sys
from pathlib import Path

from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict


def main():
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("diabetes_predictions.csv")
    inputs, real = load_diabetes(return_X_y=True)
    folds = KFold(n_splits=10, shuffle=True, random_state=0)
    pred = cross_val_predict(RidgeCV(alphas=(0.001, 0.01, 0.1, 1.0)), inputs, real, cv=folds)
    with target.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["pred", "real"])
        writer.writerows((f"{p:.9f}", f"{r:.1f}") for p, r in zip(pred, real, strict=True))


if __name__ == "__main__":
    main()
