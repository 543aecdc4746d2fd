import util


def train(model, criterion, train_loader):
    losses, triplets = util.AverageMeter(), util.AverageMeter()
    for x, y in train_loader:
        out = model(x)
        losses.update(criterion(out, y).item())  # finds: BP201
        triplets.update((out > 0).sum())
    print(losses.avg, triplets.sum)
