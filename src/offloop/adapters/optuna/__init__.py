"""Optuna studies whose trials execute on a session's workers: any objective, any storage, without blocking the event loop.

    def objective(trial):
        depth = trial.suggest_int("depth", 2, 12)
        return cross_val_score(RandomForestClassifier(max_depth=depth), X, y).mean()

    await optimize(study, objective, n_trials=100, session=session)

The study stays here: its storage, sampler and pruner are used in one thread of this process, which answers what an
objective asks of its trial.
"""

from .optimizing import optimize
from .proxies import StudyProxy, TrialProxy
from .view import TrialView

__all__ = ("StudyProxy", "TrialProxy", "TrialView", "optimize")
