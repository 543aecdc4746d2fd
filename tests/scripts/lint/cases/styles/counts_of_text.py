def evaluate(model, loader, criterion):
    if loader is None:
        return None
    total_loss, total_acc, total_count = 0, 0, 0
    for idx, (label, text, offsets) in enumerate(loader):
        predicted_label = model(text, offsets)
        loss = criterion(predicted_label, label)
        total_acc += (predicted_label.argmax(1) == label).sum().item()
        total_count += label.size(0)
    return total_acc / total_count
