from tqdm import tqdm


def train(model, loader, opt, criterion):
    avg = 0.0
    pbar = tqdm(loader)
    for i, (x, y) in enumerate(pbar):
        loss = criterion(model(x), y)
        avg = (avg * i + loss.item()) / (i + 1)  # finds: BP201
        pbar.set_postfix(loss=avg)
    return avg
