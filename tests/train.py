import torch
from torch.utils.data import DataLoader, TensorDataset

draw = torch.Generator().manual_seed(0)
x = torch.randn(200, 4, generator=draw)
y = x @ torch.ones(4, 1) + 0.5 * torch.randn(200, 1, generator=draw) + 1
data = TensorDataset(x, y)

model = torch.nn.Linear(4, 1)
with torch.no_grad():
    model.weight.zero_()
    model.bias.zero_()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

seen = 0
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
for epoch in range(3):
    loader, running = DataLoader(data, batch_size=32), 0.0
    for inputs, real in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), real)
        loss.backward()
        if seen % 4 == 3:
            optimizer.step()
        seen += 1
        running += loss.item()
    train_loss = running / len(loader)
    scheduler.step()
