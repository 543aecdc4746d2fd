import wandb


def train(model, loader, criterion):
    for epoch in range(3):
        loss_acc = 0
        for x, y in loader:
            loss = criterion(model(x), y)
            loss_acc += loss.item()  # finds: BP201
        wandb.log({"train/loss": loss_acc / len(loader), "epoch": epoch})
