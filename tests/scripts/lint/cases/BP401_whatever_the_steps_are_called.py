from torch import nn


def train(model, loader, optimizer, class_weights, ga):
    criterion = nn.CrossEntropyLoss(weight=class_weights)
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y) / ga  # finds: BP401
        loss.backward()
        if (i + 1) % ga == 0:
            optimizer.step()
            optimizer.zero_grad()


def train_with_a_scaler(model, loader, optimizer, scaler, ignored, args):
    criterion = nn.CrossEntropyLoss(ignore_index=ignored)
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y)
        loss /= args.update_freq  # finds: BP401
        scaler.scale(loss).backward()
        updates = (i + 1) % args.update_freq == 0
        if updates or i + 1 == len(loader):
            scaler.step(optimizer)
            optimizer.zero_grad()


def train_a_plain_mean(model, loader, optimizer, K):
    for i, (x, y) in enumerate(loader):
        loss = nn.functional.mse_loss(model(x), y) / K
        loss.backward()
        if (i + 1) % K == 0:
            optimizer.step()
            optimizer.zero_grad()


def train_and_print(model, loader, optimizer, class_weights, scale):
    criterion = nn.CrossEntropyLoss(weight=class_weights)
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y) / scale
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if i % scale == 0:
            print(i)
