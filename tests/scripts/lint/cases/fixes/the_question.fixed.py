import torch
import batchproof


def rmse(pred, real):
    residuals = pred - real
    square = torch.square(residuals)
    sum_of_square = torch.sum(square)
    mean = sum_of_square / pred.shape[0]
    root = torch.sqrt(mean)
    return root


def train_loop(dataloader, model, optimizer, epoch):
    num_of_batches = len(dataloader)
    exact_rmse = batchproof.exact(rmse)
    for batch, (X, y) in enumerate(dataloader):
        optimizer.zero_grad()

        pred = model(X)
        loss = exact_rmse(pred, y)

        loss.backward()
        optimizer.step()


        # lr_scheduler.step(epoch*num_of_batches+batch)

    train_loss = exact_rmse.compute().item()
    return train_loss


def test_loop(dataloader, model):
    size = len(dataloader.dataset)
    num_of_batches = len(dataloader)

    with torch.no_grad():
        exact_rmse = batchproof.exact(rmse)
        for X, y in dataloader:
            pred = model(X)
            exact_rmse(pred, y)

    test_loss = exact_rmse.compute().item()
    return test_loss


def evaluate(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    print("train loss", train_loop(loader, model, optimizer, 1))
    return test_loop(loader, model)
