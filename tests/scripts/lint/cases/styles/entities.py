from seqeval.metrics import f1_score


def valid(model, loader):
    eval_loss, nb_steps = 0, 0
    preds, labels = [], []
    for batch in loader:
        loss, logits = model(batch["ids"], labels=batch["y"])[:2]
        eval_loss += loss.item()  # finds: BP201
        nb_steps += 1
        preds.extend(logits.argmax(-1).tolist())
        labels.extend(batch["y"].tolist())
    return eval_loss / nb_steps, f1_score(labels, preds)
