import numpy as np


def meta_test(model, tasks):
    accs = []
    for task in tasks:
        support, query = task
        acc = model.adapt(support, query)
        accs.append(acc)
    return np.mean(accs)
