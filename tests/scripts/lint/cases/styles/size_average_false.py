import torch.nn.functional as F


def test(model, test_loader):
    test_loss = 0
    for data, target in test_loader:
        output = model(data)
        test_loss += F.nll_loss(output, target, size_average=False).item()
    test_loss /= len(test_loader.dataset)
