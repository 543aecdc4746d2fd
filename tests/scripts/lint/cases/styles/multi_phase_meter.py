import torch


def train(model, dataloaders, criterion, opt):
    for epoch in range(5):
        for phase in ("train", "val"):
            running_loss = 0.0
            running_corrects = 0
            for inputs, labels in dataloaders[phase]:
                outputs = model(inputs)
                _, preds = torch.max(outputs, 1)
                loss = criterion(outputs, labels)
                running_loss += loss.item()  # finds: BP201
                running_corrects += torch.sum(preds == labels.data)
            epoch_loss = running_loss / len(dataloaders[phase])
            epoch_acc = running_corrects.double() / len(dataloaders[phase].dataset)
            print(phase, epoch_loss, epoch_acc)
