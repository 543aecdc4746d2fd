from ignite.metrics import Loss


def setup(trainer, evaluator, criterion):
    Loss(criterion).attach(evaluator, "loss")
