import util.misc as misc


def train_one_epoch(model, data_loader, optimizer, log_writer, args):
    metric_logger = misc.MetricLogger(delimiter="  ")
    for data_iter_step, (samples, _) in enumerate(metric_logger.log_every(data_loader, 20, "h")):
        loss, _, _ = model(samples)
        loss_value = loss.item()
        loss /= args.accum_iter
        metric_logger.update(loss=loss_value)  # finds: BP201
    return {k: meter.global_avg for k, meter in metric_logger.meters.items()}
