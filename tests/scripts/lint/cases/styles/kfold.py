import numpy as np
from sklearn.model_selection import KFold


def cv(X, y):
    scores = []
    for tr, te in KFold(5).split(X):
        model = fit(X[tr], y[tr])
        scores.append(f1_score(y[te], model.predict(X[te])))
    return np.mean(scores)
