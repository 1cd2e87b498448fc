"""Which pixels make a random forest see the digit that it sees, image by image, on scikit-learn's digits.

Run it with ``python examples/explain_forest.py``. Each image, a row of 64 pixels, is explained by perturbing its pixels one
after another: a pixel takes values that it has in other images, and by how much the probability of the predicted digit
falls is its importance for this image. Rows are explained in blocks, which go wherever offloop decides; the program
prints what was decided, and the time against one thread. The explanations are the same both times.
"""

from __future__ import annotations

import time
from functools import partial

import anyio
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

import offloop

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of a pixel's values, which take the place of the one that it has


def explain(forest: RandomForestClassifier, values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Explain a block of rows.

    Args:
        forest: Predicts.
        values: Of each feature, what it is replaced by; shape (values, features).
        rows: The block; shape (rows, features). It is not changed.

    Returns:
        The predicted class of each row, and how far each feature of it holds up that class's probability, as a mean over
        the values; shapes (rows,) and (rows, features).
    """
    n_values, n_features = values.shape
    perturbed = np.repeat(rows[:, None, :], 1 + n_features * n_values, axis=1)
    for feature in range(n_features):
        at = 1 + feature * n_values
        perturbed[:, at : at + n_values, feature] = values[:, feature]
    probabilities = forest.predict_proba(perturbed.reshape(-1, n_features)).reshape(*perturbed.shape[:2], -1)
    predicted = probabilities[:, 0].argmax(axis=1)
    of_predicted = np.take_along_axis(probabilities, predicted[:, None, None], axis=2)[:, :, 0]
    fallen = of_predicted[:, :1] - of_predicted[:, 1:]
    return forest.classes_[predicted], fallen.reshape(len(rows), n_features, n_values).mean(axis=2)


def load_libraries() -> None:
    """Import what the forest needs: once in every process that explains rows, before the clock runs."""
    import sklearn.ensemble  # noqa: F401


async def main() -> None:
    """Fit a forest to half of the images, then explain what it sees in all of them."""
    X, y = load_digits(return_X_y=True)
    forest = RandomForestClassifier(n_estimators=100, random_state=0).fit(X[::2], y[::2])
    fn = partial(explain, forest, np.quantile(X, QUANTILES, axis=0))
    async with offloop.ParallelSession(worker_init=load_libraries) as session:
        await session.warm()
        for when in ("new", "known"):
            begun = time.perf_counter()
            digits, weights = await session.run_batches(fn, X, label=when)
            chosen_s = time.perf_counter() - begun
            print(f"{when} work: {len(X)} images explained in {chosen_s:.2f} s\n  {session.decisions[-1]}")

        begun = time.perf_counter()
        serial_digits, serial_weights = await session.run_batches(fn, X, strategy="serial")
        serial_s = time.perf_counter() - begun
    assert np.array_equal(digits, serial_digits), "blocks of any size give the same numbers, wherever they run"
    assert np.array_equal(weights, serial_weights)
    print(f"one thread: {serial_s:.2f} s; known work was {serial_s / chosen_s:.2f} × as fast\n")

    seen = digits[1]
    print(f"Pixels that make image 1 a {seen} (#), or speak against it (-):")
    for line in weights[1].reshape(8, 8):
        print("  " + " ".join("#" if weight > 0.01 else "-" if weight < -0.01 else "." for weight in line))


if __name__ == "__main__":
    anyio.run(main)
