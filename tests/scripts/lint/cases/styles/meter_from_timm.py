from collections import OrderedDict

from timm.utils import AverageMeter, accuracy


def validate(model, loader, loss_fn, args):
    losses_m = AverageMeter()
    top1_m = AverageMeter()
    last_idx = len(loader) - 1
    for batch_idx, (input, target) in enumerate(loader):
        output = model(input)
        loss = loss_fn(output, target)
        acc1, acc5 = accuracy(output, target, topk=(1, 5))
        reduced_loss = reduce_tensor(loss.data, args.world_size)
        losses_m.update(reduced_loss.item(), input.size(0))
        top1_m.update(acc1.item(), output.size(0))
    return OrderedDict([("loss", losses_m.avg), ("top1", top1_m.avg)])
