import torch.nn.functional as F


def test(model, device, test_loader):
    test_loss = 0
    for data, target in test_loader:
        data, target = data.to(device), target.to(device)
        test_loss += F.nll_loss(model(data), target).item()  # finds: BP203
    test_loss /= len(test_loader.dataset)
    print("Average loss:", test_loss)
