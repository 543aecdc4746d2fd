def train(model, dataloaders, dataset_sizes, criterion, opt):
    for phase in ["train", "val"]:
        running_loss = 0.0
        for inputs, labels in dataloaders[phase]:
            loss = criterion(model(inputs), labels)
            running_loss += loss.item()  # finds: BP203
        epoch_loss = running_loss / dataset_sizes[phase]
        print(phase, epoch_loss)
