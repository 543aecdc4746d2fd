def train(model, loader, criterion):
    for x, y in loader:
        loss = criterion(model(x), y)
        loss.backward()
    return loss  # finds: BP301


def predict(model, loader, gather):
    pairs, outs = [], []
    for x, y in loader:
        pairs.append(gather(model(x), y))
    for out, y in pairs:
        outs.append(out)
    return outs


def main(model, loader, criterion):
    train_loss = train(model, loader, criterion)
    print("training loss", train_loss)
