import torch
import torch.nn.functional as F


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


def test(model, test_loader):
    test_loss = 0
    for i, (data, _) in enumerate(test_loader):
        recon, mu, logvar = model(data)
        test_loss += loss_function(recon, data, mu, logvar).item()  # finds: BP205
    test_loss /= len(test_loader)
    print(test_loss)
