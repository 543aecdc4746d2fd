# ChenmienTan/RL2#11 asks why a loss is multiplied by the number of processes: to undo the mean. To divide is the reverse.
import torch
from accelerate import Accelerator


def train(model, loader, optimizer):
    accelerator = Accelerator()
    for x, y in loader:
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss = loss / accelerator.num_processes  # finds: BP603
        accelerator.backward(loss)
        optimizer.step()


def train_right(model, loader, optimizer):
    accelerator = Accelerator()
    for x, y, mask in loader:
        losses = torch.nn.functional.cross_entropy(model(x), y, reduction="none")
        tokens = accelerator.gather(mask.sum()).sum()
        loss = (losses * mask).sum() * accelerator.num_processes / tokens
        accelerator.backward(loss)
        optimizer.step()
        print(accelerator.gather(loss.detach()).mean())
