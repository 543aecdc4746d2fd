from torch import nn


def train(model, loader, opt, accum_steps, pad):
    criterion = nn.CrossEntropyLoss(ignore_index=pad)
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x).view(-1, 10), y.view(-1))
        loss = loss / accum_steps  # finds: BP401
        loss.backward()
        if (i + 1) % accum_steps == 0:
            opt.step()
            opt.zero_grad()
