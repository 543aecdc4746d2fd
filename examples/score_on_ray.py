"""The exact value of a function on a folder of predictions, by user, on a Ray cluster that answers or a new one.

`python examples/score_on_ray.py`
"""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import torch

import batchproof


def r2(pred, real):
    return 1 - (real - pred).square().sum() / (real - real.mean()).square().sum()


def write(folder):
    torch.manual_seed(0)
    for number in range(4):
        real = torch.randn(50_000)
        pred = real + 0.5 * torch.randn(50_000)
        user = torch.randint(3, (50_000,))
        table = pa.table({"pred": pred.numpy(), "real": real.numpy(), "user": user.numpy()})
        pyarrow.parquet.write_table(table, Path(folder) / f"{number}.parquet")


def main():
    with tempfile.TemporaryDirectory() as folder:
        write(folder)
        found = batchproof.score(folder, r2, by="user", engine="ray")
        print(f"all     {found.value:.4f} ± {found.standard_error:.4f}   {found.engine}")
        for group in found.groups:
            print(f"user {group.key[0]}  {group.values[0]:.4f} ± {group.standard_errors[0]:.4f}")


if __name__ == "__main__":
    main()
