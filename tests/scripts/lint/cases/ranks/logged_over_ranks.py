# pytorch-lightning#19816, #3023: a step's number, reduced over the ranks by a mean, is no F1 of the whole.
import torch
from torchmetrics.functional import f1_score


def evaluate(fabric, model, loader):
    for x, y in loader:
        score = f1_score(model(x), y, task="binary")
        score = fabric.all_reduce(score)  # finds: BP601
        fabric.log("f1", score)


def evaluate_right(fabric, model, loader, metric):
    for x, y in loader:
        metric.update(model(x), y)
    fabric.log("f1", metric.compute())
