def train(model, loader, criterion, opt):
    for epoch in range(10):
        for x, y in loader:
            opt.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            opt.step()
        print("epoch", epoch, "loss", loss.item())  # finds: BP301
