import torch


def score(model, loader, metric_functions, tracker):
    with torch.no_grad():
        for x, y in loader:
            output = model(x)
            for metric in metric_functions:
                tracker.update(metric.__name__, metric(output, y))  # finds: BP201
    return tracker.result()


def of_the_whole_set(model, loader, scorer):
    with torch.no_grad():
        for x, y in loader:
            scorer.update(model(x), y)
    return scorer.result()
