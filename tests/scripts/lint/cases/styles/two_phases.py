def fit(model, loaders, criterion, opt):
    history = {"train": [], "val": []}
    for epoch in range(3):
        for phase in ["train", "val"]:
            running = 0.0
            for x, y in loaders[phase]:
                loss = criterion(model(x), y)
                running += loss.item() * x.size(0)
            epoch_loss = running / len(loaders[phase].dataset)
            history[phase].append(epoch_loss)
