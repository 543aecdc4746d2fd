import torch
from tqdm import tqdm


def train(model, dataloader, optimizer, compute_loss):
    for epoch in range(9):
        mloss = torch.zeros(3)
        pbar = tqdm(enumerate(dataloader), total=len(dataloader))
        for i, (imgs, targets, paths, _) in pbar:
            pred = model(imgs)
            loss, loss_items = compute_loss(pred, targets)
            loss.backward()
            mloss = (mloss * i + loss_items) / (i + 1)  # finds: BP201
            pbar.set_description("%g" % mloss.mean())
