def train(model, loader, criterion, world_size):
    total = 0.0
    for x, y in loader:
        loss = criterion(model(x), y)
        loss.backward()
        total += loss.item()  # finds: BP201
    return total / world_size / len(loader)
