def train(model, loader, optimizer):
    totals = {"all": 0, "boxes": 0}
    for images, targets in loader:
        losses = model(images, targets)
        loss = sum(losses.values())
        loss.backward()
        optimizer.step()
        totals["all"] += loss.item()  # finds: BP201
        totals["boxes"] += losses["boxes"].item()  # finds: BP201
    for key in totals:
        totals[key] /= len(loader)
    return totals
