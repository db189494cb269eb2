"""
In place of scikit-learn's MLPs
===============================

One import is changed, and a grid search finds the same parameters with the same scores, sooner.

The data are the breast cancer set of scikit-learn (W. Wolberg, W. Street and O. Mangasarian,
Diagnostic Wisconsin, UCI, 1995, CC BY 4.0): 569 tumours, 30 measures of each.
"""

import time

import numpy as np

try:
    import matplotlib.pyplot as plt
except ImportError:
    raise SystemExit("this example needs matplotlib: pip install 'fastgd[plot]'") from None
try:
    import sklearn.neural_network
except ImportError:
    raise SystemExit("this example needs scikit-learn: pip install 'fastgd[sklearn]'") from None
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastgd.sklearn

# %%
# The same search with both
# -------------------------
# :class:`fastgd.sklearn.MLPClassifier` takes every parameter of scikit-learn's, and draws the same
# random numbers.

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
GRID = {
    "mlpclassifier__learning_rate_init": [0.003, 0.01, 0.03],
    "mlpclassifier__hidden_layer_sizes": [(8,), (32,)],
}
searches, seconds = {}, {}
for package in (sklearn.neural_network, fastgd.sklearn):
    name = package.__name__.partition(".")[0]
    model = package.MLPClassifier(max_iter=500, random_state=0)
    search = GridSearchCV(make_pipeline(StandardScaler(), model), GRID, cv=3)
    began = time.perf_counter()
    searches[name] = search.fit(X_train, y_train)
    seconds[name] = time.perf_counter() - began

(theirs, ours) = searches.values()
tables = [search.cv_results_["mean_test_score"] for search in (theirs, ours)]
print(f"all {len(tables[0])} scores equal: {np.array_equal(*tables)}")
print(f"the same best parameters: {theirs.best_params_ == ours.best_params_}")
for name, search in searches.items():
    print(f"{name}: best score {search.best_score_:.4f}, test {search.score(X_test, y_test):.4f}")
print(f"scikit-learn took {seconds['sklearn'] / seconds['fastgd']:.1f} times as long here")

# %%
# All ``6`` scores are equal: the two train the same networks, up to rounding that changes no answer
# here. How much sooner it is depends on the machine, and on the size of the network.

scores = tables[1].reshape(3, 2)
figure, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
image = ax.imshow(100 * scores, cmap="viridis", aspect="auto")
for (row, column), score in np.ndenumerate(100 * scores):
    dark = score < 100 * (scores.min() + scores.max()) / 2
    ax.text(
        column, row, f"{score:.1f}", ha="center", va="center", color="white" if dark else "black"
    )
rates, sizes = GRID.values()
ax.set_xticks(range(len(sizes)), [str(size[0]) for size in sizes])
ax.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
ax.set(xlabel="hidden units", ylabel="learning_rate_init")
figure.colorbar(image, label="mean accuracy of 3 folds in %")

# %%
# Two curves that are one
# -----------------------
# :class:`fastgd.sklearn.LossCurveDisplay` takes estimators of both packages.

figure, ax = plt.subplots(figsize=(5.6, 4.6), layout="constrained")
looks = {
    "sklearn": {"color": "#D55E00", "linewidth": 5, "alpha": 0.5},
    "fastgd": {"color": "#0072B2", "linewidth": 1.5},
}
for name, search in searches.items():
    fastgd.sklearn.LossCurveDisplay.from_estimator(
        search.best_estimator_[-1], ax=ax, name=name, **looks[name]
    )
ax.set_yscale("log")
curves = [search.best_estimator_[-1].loss_curve_ for search in searches.values()]
difference = np.abs(np.subtract(*curves)).max()
print(f"largest difference of the {len(curves[0])} losses below 1e-9: {difference < 1e-9}")

plt.show()
