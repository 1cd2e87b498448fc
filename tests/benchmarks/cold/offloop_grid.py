"""A grid search on two workers through offloop, from a cold start."""

from joblib import parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import offloop.adapters.joblib

if __name__ == "__main__":
    X, y = load_digits(return_X_y=True)
    with parallel_config("offloop", n_jobs=2):
        grid = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [1e-3, 1e-4]}, cv=3).fit(X, y)
    assert grid.best_score_ > 0.9
    assert offloop.adapters.joblib
