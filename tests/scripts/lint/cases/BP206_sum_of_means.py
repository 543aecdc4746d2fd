import torch.nn.functional as F


def train(model, loader, optimizer, writer):
    total, other, third, count = 0.0, 0.0, 0.0, 0
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()  # finds: BP206
        other += loss.item() * len(x)
        third += F.mse_loss(model(x), y, reduction="sum").item()
        count += (model(x).argmax(1) == y).sum().item()
    print(f"loss {total:.3f}", other, third, count)
    return other / len(loader.dataset)


def parts_of_an_average(model, loader, parts, steps, draw):
    total, few = 0.0, 0.0
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        total += loss.item() / parts
    for _ in range(steps):
        x, y = draw.next_batch()
        few += F.mse_loss(model(x), y).item()
    print("loss", total, few)
