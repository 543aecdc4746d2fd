# accelerate's example of metrics over several processes: what was repeated is cut off by hand.
def evaluate(model, loader, accelerator, metric):
    model.eval()
    samples_seen = 0
    for step, batch in enumerate(loader):
        predictions = model(**batch).logits.argmax(dim=-1)
        predictions, references = accelerator.gather((predictions, batch["labels"]))
        if step == len(loader) - 1:
            predictions = predictions[: len(loader.dataset) - samples_seen]
            references = references[: len(loader.dataset) - samples_seen]
        else:
            samples_seen += references.shape[0]
        metric.add_batch(predictions=predictions, references=references)
    return metric.compute()
