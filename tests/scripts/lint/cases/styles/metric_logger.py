import torch
import utils


def evaluate(data_loader, model):
    metric_logger = utils.MetricLogger(delimiter="  ")
    criterion = torch.nn.CrossEntropyLoss()
    for images, target in metric_logger.log_every(data_loader, 10, "Test:"):
        output = model(images)
        loss = criterion(output, target)
        acc1, acc5 = accuracy(output, target, topk=(1, 5))
        batch_size = images.shape[0]
        metric_logger.update(loss=loss.item())  # finds: BP201
        metric_logger.meters["acc1"].update(acc1.item(), n=batch_size)
    return {k: m.global_avg for k, m in metric_logger.meters.items()}
