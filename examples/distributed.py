"""One value over several processes: each scores its own samples, and `sync` merges what they hold.

`torchrun --standalone --nproc-per-node=2 examples/distributed.py`
"""

import torch
import torch.distributed as dist

import batchproof


def rmse(pred, real):
    return (pred - real).square().mean().sqrt()


def main():
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    pred, real = torch.randn(442), torch.randn(442)
    mine = slice(0, 300) if dist.get_rank() == 0 else slice(300, 442)  # uneven, as shares often are

    metric = batchproof.exact(rmse)
    for p, r in zip(pred[mine].split(64), real[mine].split(64), strict=True):
        metric.update(p, r)
    own = metric.compute()
    metric.sync()  # from here on every process holds all samples

    if dist.get_rank() == 0:
        print(f"rank 0 alone      {own:.4f}")
        print(f"all, after sync   {metric.compute():.4f}   {metric.n_samples} samples")
        print(f"one process       {rmse(pred, real):.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
