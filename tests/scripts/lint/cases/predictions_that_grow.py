import torch
from torch.utils.data import DataLoader

def evaluate(model, loader):
    predict = None
    test = None
    for x, y in loader:
        output = model(x)
        if predict is None:
            predict = output
            test = y
        else:
            predict = torch.cat((predict, output))
            test = torch.cat((test, y))
    predict = predict.data.cpu().numpy()
    ytest = test.data.cpu().numpy()
    sigma_p = predict.std(axis=0)
    mean_p = predict.mean(axis=0)
    mean_g = ytest.mean(axis=0)
    return ((predict - mean_p) * (ytest - mean_g)).mean(axis=0) / sigma_p

print(evaluate(torch.nn.Linear(3, 3), DataLoader(torch.utils.data.TensorDataset(torch.randn(10, 3), torch.randn(10, 3)), batch_size=4)))
