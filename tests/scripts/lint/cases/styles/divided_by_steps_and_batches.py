import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(64, 3)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, drop_last=True)
net = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), 0.0)
steps = 4
total = 0
for i, (a, b) in enumerate(loader):
    loss = torch.nn.functional.mse_loss(net(a), b)
    loss = loss / steps
    total += loss.detach().float()  # finds: BP203
    loss.backward()
    if (i + 1) % steps == 0:
        opt.step()
        opt.zero_grad()
train_loss = total.item() / len(loader)
print("train loss", train_loss, "and in truth", torch.nn.functional.mse_loss(net(x), x.sum(1, keepdim=True)).item())
