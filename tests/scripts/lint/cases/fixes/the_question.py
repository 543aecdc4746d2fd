import torch


def rmse(pred, real):
    residuals = pred - real
    square = torch.square(residuals)
    sum_of_square = torch.sum(square)
    mean = sum_of_square / pred.shape[0]
    root = torch.sqrt(mean)
    return root


def train_loop(dataloader, model, optimizer, epoch):
    num_of_batches = len(dataloader)
    total_loss = 0
    for batch, (X, y) in enumerate(dataloader):
        optimizer.zero_grad()

        pred = model(X)
        loss = rmse(pred, y)

        loss.backward()
        optimizer.step()

        total_loss += loss.item()

        # lr_scheduler.step(epoch*num_of_batches+batch)

    train_loss = total_loss / num_of_batches
    return train_loss


def test_loop(dataloader, model):
    size = len(dataloader.dataset)
    num_of_batches = len(dataloader)
    test_loss = 0

    with torch.no_grad():
        for X, y in dataloader:
            pred = model(X)
            test_loss += rmse(pred, y).item()

    test_loss /= num_of_batches
    return test_loss


def evaluate(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    print("train loss", train_loop(loader, model, optimizer, 1))
    return test_loop(loader, model)
