import torch.nn as nn
from torch.utils.data import DataLoader, random_split


def train(train_set, model, batch_size):
    criterion = nn.CrossEntropyLoss()
    total_loss = 0
    for x, y in DataLoader(train_set, batch_size=batch_size):
        total_loss += criterion(model(x), y).item()  # finds: BP203
    print("Loss: {}".format(total_loss / train_set.__len__()))


first, second = random_split(load(), [10, 2])
train(first, Model(), 3)
