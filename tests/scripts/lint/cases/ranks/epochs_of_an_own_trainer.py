# The tutorials' trainer, without the line that tells its sampler the epoch; a loader that a function returns.
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


class Trainer:
    def __init__(self, model, train_data, optimizer):
        self.model = model
        self.train_data = train_data
        self.optimizer = optimizer

    def run_batch(self, x, y):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()

    def run_epoch(self):
        for x, y in self.train_data:
            self.run_batch(x, y)

    def train(self, max_epochs):
        for _ in range(max_epochs):
            self.run_epoch()


def prepare(dataset, batch_size):
    return DataLoader(dataset, batch_size=batch_size, sampler=DistributedSampler(dataset))  # finds: BP604


def prepare_evaluation(test_set, batch_size):
    sampler = DistributedSampler(test_set, shuffle=False)  # finds: BP303
    return DataLoader(test_set, batch_size=batch_size, sampler=sampler)
