import time

import torch
from torch.utils.data import DataLoader


class AverageMeter:
    def __init__(self):
        self.sum, self.count, self.avg = 0.0, 0, 0.0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def train(model, loader, optimizer):
    per_sample_time, losses = AverageMeter(), AverageMeter()
    end_time = time.time()
    for x, y in loader:
        per_sample_time.update((time.time() - end_time) / x.shape[0])
        loss = torch.nn.functional.cross_entropy(model(x), y)
        losses.update(loss.item(), x.shape[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        end_time = time.time()
    print(per_sample_time.avg, losses.avg)


def main():
    data = torch.utils.data.TensorDataset(torch.randn(10, 3), torch.randint(0, 3, (10,)))
    model = torch.nn.Linear(3, 3)
    train(model, DataLoader(data, batch_size=4), torch.optim.SGD(model.parameters(), 0.1))


main()
