def evaluate(model, loader, criterion):
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y)
        print("batch", i, "loss", loss.item())
