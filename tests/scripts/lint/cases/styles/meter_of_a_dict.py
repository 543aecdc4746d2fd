import torch
from utils import History, criterion
def train_epoch(model, train_loader, config):
    epoch_dice = History(config['dice_label'], 'train')
    for i, data in enumerate(train_loader, 0):
        labels = data['seg']
        y_pred = model(data['x'])
        loss_dict, dice_dict = criterion(y_pred, labels, similarity=False)
        loss_dict['total_loss'].backward()
        epoch_dice.update(dice_dict, need_item=False)  # finds: BP101
    avg = epoch_dice.average()
    return avg
