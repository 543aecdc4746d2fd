from torch.utils.data import DataLoader

test_loader = DataLoader(test_set, batch_size=32, shuffle=False, drop_last=True)  # finds: BP302


def test(model):
    correct = 0
    for x, y in test_loader:
        correct += (model(x).argmax(1) == y).sum().item()
    return correct / len(test_set)
