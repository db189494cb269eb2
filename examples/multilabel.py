"""
Several labels at once
======================

Will tomorrow be wet, windy, warmer than today, much warmer by day than by night? One network with
four outputs answers four questions, each with a probability of its own.

The data are the weather of Seattle, day by day from 2012 to 2015, in the package vega_datasets (MIT
licence), drawn from public-domain data of NOAA.
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
# The package is not imported: only its file is read. The inputs are the weather of one day, how it
# has changed since the day before, and the season; the labels are of the day after. Labels do not
# exclude each other, and a row may have none.

package = importlib.util.find_spec("vega_datasets")
if package is None or package.origin is None:
    raise SystemExit("this example needs vega_datasets: pip install 'fastgd[examples]'")
file = Path(package.origin).parent / "_data" / "seattle-weather.csv"
with file.open(encoding="utf-8", newline="") as lines:
    days = [
        [float(day[name]) for name in ("precipitation", "temp_max", "temp_min", "wind")]
        for day in csv.DictReader(lines)
    ]
rain, warmest, coldest, wind = np.array(days).T

season = 2 * np.pi * np.arange(1, len(days) + 1) / 365.25
today = np.column_stack(
    [rain > 0, np.log1p(rain), warmest / 10, coldest / 10, wind / 5, np.cos(season), np.sin(season)]
)
change = np.diff(np.column_stack([rain / 5, warmest / 5, coldest / 5, wind / 5]), axis=0)
X = np.column_stack([today[1:-1], change[:-1]])
LABELS = ["wet", "wind over 4 m/s", "warmer than today", "8 °C from night to day"]
Y = np.column_stack([rain > 0, wind > 4, np.diff(warmest, prepend=0) > 0, warmest - coldest > 8])
Y = Y[2:].astype(float)
is_test = np.arange(len(X)) >= 3 * 365
print(f"{(~is_test).sum()} days to train on, {is_test.sum()} to test on")
print(f"labels of a day: {Y.sum(axis=1).mean():.2f} on average")

# %%
# The network
# -----------
# With ``log_loss`` every output is a sigmoid and a yes-or-no question of its own. The hidden layer
# is common to all of them.

net = fastgd.Network(
    [fastgd.Dense(16, "tanh", l2=1e-3), fastgd.Dense(len(LABELS), l2=1e-3)],
    loss="log_loss",
    optimizer=fastgd.Adam(lr=0.01),
)
net.fit(X[~is_test], Y[~is_test], epochs=60, verbose=0)
probability = net.predict(X[is_test]).astype(float)
happened = Y[is_test]
scores = net.evaluate(X[is_test], happened, metrics="accuracy")
print(f"answers right: {scores['accuracy']:.1%}; log loss of a day {scores['loss']:.3f}")

# %%
# ``accuracy`` counts every output of a network with ``log_loss`` by itself: ``74.8%`` of the four
# answers a day are right.
#
# Is it worth anything?
# ---------------------
# A forecast must beat the climate: the share of the days to train on, the same answer every day.

climate = np.broadcast_to(Y[~is_test].mean(axis=0), happened.shape)


def log_loss(p):
    """Return the mean log loss of each label."""
    return -np.where(happened == 1, np.log(p), np.log(1 - p)).mean(axis=0)


losses = np.array([log_loss(climate), log_loss(probability)])
right = np.array([((p > 0.5) == happened).mean(axis=0) for p in (climate, probability)])
for label, (before, after), (some, more) in zip(LABELS, losses.T, right.T, strict=True):
    print(f"{label:24} log loss {before:.3f} -> {after:.3f}  right {some:.1%} -> {more:.1%}")

figure, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
at = np.arange(len(LABELS))
ax.barh(at - 0.2, losses[0], 0.38, color="#D55E00", label="climate")
ax.barh(at + 0.2, losses[1], 0.38, color="#0072B2", label="network")
ax.set_yticks(at, LABELS)
ax.invert_yaxis()
ax.set(xlabel="log loss on the days to test on (lower is better)", xlim=(0, 0.8))
ax.grid(axis="x", alpha=0.3)
ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)

# %%
# All four are better than the climate. Whether it gets warmer is the hardest to tell from the day
# before: ``63.5%`` of the answers are right, where a coin has one half. The share alone can
# deceive: of wind ``82.1%`` are right, but ``78.8%`` are if the answer is always no.

n_days = 45
figure, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
image = ax.imshow(
    probability[:n_days].T, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
)
days, labels = np.nonzero(happened[:n_days])
ax.plot(days, labels, "o", color="#D55E00", markeredgecolor="white", markersize=5)
ax.set_yticks(at, LABELS)
ax.set(xlabel="day to test on (dots: it happened)")
figure.colorbar(image, label="probability", orientation="horizontal")

plt.show()
