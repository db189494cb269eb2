"""scikit-learn: MLPClassifier by fit and by partial_fit; SGDRegressor for the delta rule."""

from __future__ import annotations

import warnings

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDRegressor
from sklearn.neural_network import MLPClassifier

from benchmarks.peers import Runner, Unsupported, WholeFit, fashion
from benchmarks.shapes import Job, first_weights, samples

warnings.simplefilter("ignore", ConvergenceWarning)


def versions() -> dict[str, str]:
    return {"scikit-learn": sklearn.__version__}


def _classifier(job: Job, X: np.ndarray, y: np.ndarray, epochs: int) -> MLPClassifier:
    """Make an MLPClassifier with the first weights that goes on where it stopped."""
    if job.loss != "cross_entropy" or job.optimizer["name"] != "sgd":
        raise Unsupported("MLPClassifier is measured with cross entropy and plain SGD")
    model = MLPClassifier(
        job.sizes[1:-1],
        activation=job.activation,
        solver="sgd",
        alpha=0.0,
        batch_size=job.batch,
        learning_rate_init=job.learning_rate,
        momentum=0.0,
        nesterovs_momentum=False,
        max_iter=epochs,
        shuffle=job.shuffle,
        tol=0.0,
        n_iter_no_change=10**9,
        warm_start=True,
        random_state=0,
    )
    # One step builds the arrays; then they take the common weights.
    model.partial_fit(X[: job.batch], y[: job.batch], classes=np.arange(job.sizes[-1]))
    for i, (W, b) in enumerate(first_weights(job)):
        model.coefs_[i][...] = W
        model.intercepts_[i][...] = b
    return model


class Train(Runner):
    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        self.model = _classifier(job, self.X, self.y, 1)
        # Labels must all occur: fit with warm_start insists on the classes of before.
        assert len(np.unique(self.y)) == job.sizes[-1]
        size = job.batch
        self.batches = [
            (self.X[i : i + size], self.y[i : i + size]) for i in range(0, len(self.X), size)
        ]

    def run(self, n: int) -> int:
        epochs = max(1, round(n / self.job.steps))
        if self.job.variant == "fit":
            self.model.max_iter = epochs
            self.model.fit(self.X, self.y)
        else:
            for _ in range(epochs):
                for x, y in self.batches:
                    self.model.partial_fit(x, y)
        return epochs * self.job.steps

    def weights(self) -> list[np.ndarray]:
        pairs = zip(self.model.coefs_, self.model.intercepts_, strict=True)
        return [p for pair in pairs for p in pair]


class DeltaRule(Runner):
    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        ((self.W, self.b),) = first_weights(job)
        self.targets = self.y[:, 0].copy()
        self.model = SGDRegressor(
            penalty=None,
            learning_rate="constant",
            eta0=job.learning_rate,
            shuffle=False,
            tol=None,
            max_iter=1,
        )

    def run(self, n: int) -> int:
        epochs = max(1, round(n / self.job.steps))
        self.model.max_iter = epochs
        self.model.fit(self.X, self.targets, coef_init=self.W[:, 0], intercept_init=self.b)
        return epochs * self.job.steps

    def weights(self) -> list[np.ndarray]:
        return [self.model.coef_[:, None], self.model.intercept_]


class Fit(WholeFit):
    def __init__(self, job: Job):
        super().__init__(job, fashion(job))

    def run(self, n: int) -> int:
        for _ in range(n):
            model = _classifier(self.job, self.X, self.y, self.job.epochs)
            model.fit(self.X, self.y)
            self.last_loss = float(model.loss_curve_[-1])
        return n


def make(job: Job, threads: int) -> Runner:
    if job.kind == "train" and len(job.sizes) == 2:
        if job.batch != 1 or job.loss != "squared_error" or job.sizes[-1] != 1:
            raise Unsupported("scikit-learn trains linear models one sample at a time")
        return DeltaRule(job)
    if job.kind == "predict":
        raise Unsupported("scikit-learn is not among the peers of predict")
    return {"train": Train, "fit": Fit}[job.kind](job)
