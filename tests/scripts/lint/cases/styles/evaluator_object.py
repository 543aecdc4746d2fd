def evaluate(model, data_loader, coco_evaluator):
    for images, targets in data_loader:
        outputs = model(images)
        res = {t["image_id"]: o for t, o in zip(targets, outputs)}
        coco_evaluator.update(res)
    coco_evaluator.accumulate()
    return coco_evaluator.summarize()
