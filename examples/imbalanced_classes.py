"""
Imbalanced classes
==================

Who will see a doctor often next year? One person in 46 does so 15 times or more. What class weights
change when one class is that rare, and what they do not.

The data are those of the RAND Health Insurance Experiment (1974 to 1982) in the package
statsmodels, which says that they are in the public domain: 20,190 years of 5,912 persons.
"""

import csv
import importlib.util
from pathlib import Path

import numpy as np

import fastgd

try:
    import matplotlib.pyplot as plt
except ImportError:
    raise SystemExit("this example needs matplotlib: pip install 'fastgd[plot]'") from None

# %%
# The data
# --------
# The package is not imported: only its file is read. Each row is a year of a person; where the next
# row is the next year of the same person, its visits are what is to be predicted. Every fifth
# person is for testing: years of one person are alike, and must not be on both sides. The scales
# bring every input to some 0 to 1.

package = importlib.util.find_spec("statsmodels")
if package is None or package.origin is None:
    raise SystemExit("this example needs statsmodels: pip install 'fastgd[examples]'")
file = Path(package.origin).parent / "datasets" / "randhie" / "src" / "randhie.csv"
NAMES = [
    "mdvis", "notmdvis", "totadm",  # visits to doctors and others, stays in hospital
    "xage", "female", "linc", "num",  # log of the income, size of the family
    "coins", "disea", "xghindx",  # share of the bill in %, diseases, index of general health
]  # fmt: skip
with file.open(encoding="utf-8", newline="") as lines:
    rows = list(csv.DictReader(lines))
table = np.array([[float(row[name]) for name in NAMES] for row in rows])
person, year = (np.array([float(row[name]) for row in rows]) for name in ("zper", "year"))

goes_on = np.flatnonzero((np.diff(person) == 0) & (np.diff(year) == 1))
y = (table[goes_on + 1, 0] >= 15).astype(float)
X = table[goes_on]
X[:, :2] = np.log1p(X[:, :2])
X /= [4, 4, 2, 60, 1, 10, 10, 100, 60, 100]
is_test = np.unique(person[goes_on], return_inverse=True)[1] % 5 == 4
X_train, y_train, X_test, y_test = X[~is_test], y[~is_test], X[is_test], y[is_test]
print(f"often: {y_train.mean():.2%} of {len(y_train)} rows to train on")
print(f"{y_test.sum():.0f} of {len(y_test)} test rows; the others are {1 - y_test.mean():.2%}")

# %%
# Accuracy says nothing here: the answer "not often" for everybody has ``97.83%``.
#
# With and without weights
# ------------------------
# ``sample_weight`` counts every rare row as often as there are common rows for it, so that both
# classes weigh the same.

weight = np.where(y_train == 1, (y_train == 0).sum() / (y_train == 1).sum(), 1.0)
print(f"weight of a rare row {weight.max():.1f}")
outputs = {}
for name, sample_weight in (("no weights", None), ("balanced weights", weight)):
    net = fastgd.Network(
        [fastgd.Dense(8, "tanh", l2=1e-4), fastgd.Dense(1)],
        loss="log_loss",
        optimizer=fastgd.Adam(lr=0.003),
    )
    net.fit(
        X_train,
        y_train,
        epochs=20,
        batch_size=64,
        sample_weight=sample_weight,
        verbose=0,
    )
    outputs[name] = net.predict(X_test)[:, 0]


# %%
# The precision-recall curve
# --------------------------
# Sort the rows by the output, and go down: precision is the share of rare rows among those passed,
# recall the share of all rare rows that were passed. Average precision is the mean of the precision
# at each rare row. Rows with equal outputs are passed together.


def precision_recall(y, output):
    """Return precision and recall at each distinct output, from the greatest down."""
    order = np.argsort(-output, kind="stable")
    last = np.append(np.diff(output[order]) != 0, True)
    passed, found = np.arange(1, len(y) + 1)[last], np.cumsum(y[order])[last]
    return found / passed, found / y.sum()


figure, ax = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
looks = zip(outputs.items(), ("#0072B2", "#D55E00"), ("-", "--"), "os", strict=True)
for (name, output), colour, style, marker in looks:
    precision, recall = precision_recall(y_test, output)
    average = (precision * np.diff(recall, prepend=0)).sum()
    is_flagged = output > 0.5
    hits = int(y_test[is_flagged].sum())
    print(
        f"{name}: mean output {output.mean():.3f}, average precision {average:.3f}, "
        f"{is_flagged.sum()} above 0.5, of which {hits} often"
    )
    ax.plot(recall, precision, style, color=colour, label=f"{name} (average {average:.3f})")
    ax.plot(
        hits / y_test.sum(), hits / is_flagged.sum(), marker, color=colour, markersize=9,
        label="... at output 0.5",
    )  # fmt: skip
ax.axhline(y_test.mean(), color="0.3", linestyle=":", label="chosen blindly")
ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
ax.grid(alpha=0.3)
ax.legend()

# %%
# With weights, 0.5 is passed by ``340`` rows instead of ``21``, and by ``50`` of the 62 rare ones
# instead of ``15``. But the order of the rows, which is all that the curve depends on, has not got
# better: the average precision is ``0.409`` with weights and ``0.418`` without. Weights move the
# border along the curve. A border can be chosen without them as well, and then the outputs stay
# probabilities: their mean is ``0.023``, near the share of rare rows, and ``0.190`` with weights.

figure, panels = plt.subplots(2, 1, sharex=True, figsize=(5.6, 4.6), layout="constrained")
bins = np.linspace(0, 1, 41)
for ax, (name, output) in zip(panels, outputs.items(), strict=True):
    ax.hist(output[y_test == 0], bins, color="#0072B2", alpha=0.6, label="not often")
    ax.hist(output[y_test == 1], bins, color="#D55E00", histtype="step", linewidth=2, label="often")
    ax.axvline(0.5, color="0.3", linestyle=":")
    ax.set(yscale="log", ylabel="test rows", title=name)
panels[0].legend()
panels[1].set_xlabel("output of the network")

plt.show()
