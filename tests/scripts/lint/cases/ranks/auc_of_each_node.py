# dmlc/xgboost#4663: the distributed AUC is the average of the nodes'.
import torch
import torch.distributed as dist
from sklearn.metrics import roc_auc_score


def evaluate(model, loader, world_size):
    scores, labels = [], []
    for x, y in loader:
        scores.append(model(x))
        labels.append(y)
    auc = torch.tensor(roc_auc_score(torch.cat(labels).numpy(), torch.cat(scores).numpy()))
    dist.all_reduce(auc)  # finds: BP601
    return auc / world_size


def evaluate_right(model, loader, world_size):
    scores, labels = [], []
    for x, y in loader:
        scores.append(model(x))
        labels.append(y)
    all_scores, all_labels = [None] * world_size, [None] * world_size
    dist.all_gather_object(all_scores, torch.cat(scores))
    dist.all_gather_object(all_labels, torch.cat(labels))
    return roc_auc_score(torch.cat(all_labels), torch.cat(all_scores))


class Evaluator:
    def __init__(self, args):
        self.args = args

    def mean_over_the_nodes(self, miou):
        miou = torch.tensor(miou).cuda()
        gathered = [torch.ones_like(miou)] * self.args.world_size
        dist.all_gather(gathered, miou)  # finds: BP601
        return torch.stack(gathered, dim=0).sum(dim=0).item() / self.args.world_size

    def of_all_nodes(self, intersection, union):
        dist.all_reduce(intersection)
        dist.all_reduce(union)
        return (intersection / union).mean()
