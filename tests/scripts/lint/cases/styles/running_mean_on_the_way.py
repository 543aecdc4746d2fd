def train(model, loader, criterion):
    running = total = 0
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y)
        loss.backward()
        running += loss.item()
        average = running / (i + 1)
        total += average  # finds: BP204
    return total / len(loader)
