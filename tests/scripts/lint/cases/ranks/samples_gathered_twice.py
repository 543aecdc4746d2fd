# accelerate#226, #350: the samples that fill the last batch are scored twice.
def evaluate(model, loader, accelerator, metric):
    model.eval()
    for batch in loader:
        predictions = model(**batch).logits.argmax(dim=-1)
        predictions = accelerator.gather(predictions)  # finds: BP606
        metric.add_batch(predictions=predictions, references=accelerator.gather(batch["labels"]))
    return metric.compute()


def evaluate_right(model, loader, accelerator, metric):
    model.eval()
    for batch in loader:
        predictions = model(**batch).logits.argmax(dim=-1)
        predictions, labels = accelerator.gather_for_metrics((predictions, batch["labels"]))
        metric.add_batch(predictions=predictions, references=labels)
    return metric.compute()
