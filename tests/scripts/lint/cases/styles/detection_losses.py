def train_one_epoch(model, data_loader, optimizer):
    total_loss = 0
    for images, targets in data_loader:
        loss_dict = model(images, targets)
        losses = sum(loss for loss in loss_dict.values())
        losses.backward()
        total_loss += losses.item()  # finds: BP201
    return total_loss / len(data_loader)
