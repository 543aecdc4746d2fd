import torch
from setup import tr_loader, make_loaders
from tqdm import tqdm


class Trainer:
    def __init__(self, model, criterion, config):
        self.model, self.criterion = model, criterion
        self.train_loader, self.val_loader = make_loaders(config)

    def epoch(self):
        total = 0.0
        bar = tqdm(self.train_loader, desc="training")
        for x, y in bar:
            total += self.criterion(self.model(x), y).item()  # finds: BP201
        return total / len(self.train_loader)

    def imported(self):
        total = 0.0
        for x, y in tqdm(tr_loader):
            total += self.criterion(self.model(x), y).item()  # finds: BP201
        return total / len(tr_loader)

    def of_samples(self):
        total = 0.0
        for x, y in self.val_loader:
            total += torch.nn.functional.mse_loss(self.model(x), y, reduction="sum").item()
        return total / len(self.val_loader.dataset)
