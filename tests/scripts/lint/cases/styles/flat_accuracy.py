import numpy as np
import torch


def flat_accuracy(preds, labels):
    pred_flat = np.argmax(preds, axis=1).flatten()
    labels_flat = labels.flatten()
    return np.sum(pred_flat == labels_flat) / len(labels_flat)


def validate(model, validation_dataloader):
    total_eval_accuracy = 0
    total_eval_loss = 0
    for batch in validation_dataloader:
        b_input_ids = batch[0]
        b_labels = batch[2]
        with torch.no_grad():
            result = model(b_input_ids, labels=b_labels, return_dict=True)
        loss = result.loss
        logits = result.logits
        total_eval_loss += loss.item()  # finds: BP201
        total_eval_accuracy += flat_accuracy(logits.cpu().numpy(), b_labels.numpy())  # finds: BP201
    avg_val_accuracy = total_eval_accuracy / len(validation_dataloader)
    avg_val_loss = total_eval_loss / len(validation_dataloader)
    print(avg_val_accuracy, avg_val_loss)
