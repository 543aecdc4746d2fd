import torch
from torch import nn

train_loader = torch.utils.data.DataLoader(ds, batch_size=64, shuffle=True)
criterion = nn.CrossEntropyLoss()
for e in range(5):
    running_loss = 0
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()  # finds: BP201
    else:
        test_loss = 0
        accuracy = 0
        with torch.no_grad():
            for images, labels in test_loader:
                log_ps = model(images)
                test_loss += criterion(log_ps, labels)  # finds: BP201
                ps = torch.exp(log_ps)
                top_p, top_class = ps.topk(1, dim=1)
                equals = top_class == labels.view(*top_class.shape)
                accuracy += torch.mean(equals.type(torch.FloatTensor))  # finds: BP201
        print(running_loss / len(train_loader), test_loss / len(test_loader), accuracy / len(test_loader))
