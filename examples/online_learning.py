"""
Learning from a stream
======================

The carbon dioxide in the air has a level that rises and a season that returns. A linear model that
takes one step for each measurement keeps up; one that was trained once falls behind.

The data are the weekly means of Mauna Loa from 1958 to 2001 (C. D. Keeling and T. P. Whorf, 2004),
in the package statsmodels, which says that they are in the public domain.
"""

import csv
import datetime
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
# The package is not imported: only its file is read. A week that was not measured has nothing to
# learn from, and is left out. The inputs are two harmonics of the year and nothing else: the level
# is left to the bias.

package = importlib.util.find_spec("statsmodels")
if package is None or package.origin is None:
    raise SystemExit("this example needs statsmodels: pip install 'fastgd[examples]'")
file = Path(package.origin).parent / "datasets" / "co2" / "co2.csv"
with file.open(encoding="utf-8", newline="") as lines:
    weeks = list(csv.DictReader(lines))
measured = [week for week in weeks if week["co2"]]
co2 = np.array([float(week["co2"]) for week in measured])
dates = [datetime.datetime.strptime(week["date"][:8], "%Y%m%d") for week in measured]
year = np.array([date.year + (date.timetuple().tm_yday - 1) / 365.25 for date in dates])
angle = 2 * np.pi * year
X = np.column_stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)])
print(f"{len(co2)} weeks measured of {len(weeks)}; {co2[0]} ppm at first, {co2[-1]} at last")

# %%
# The delta rule
# --------------
# For an identity output and the squared error, gradient descent on one sample is the delta rule:
# ``w <- w + lr (target - output) input``. :meth:`fastgd.Network.train_step` does it, and returns
# the loss *before* the step: the error of a forecast by a model that has not seen the week yet.
# This running error is an honest one, without any division of the data. The bias begins at the
# first measurement.


def linear_model(lr):
    net = fastgd.Network(
        [fastgd.Dense(1)],
        loss="squared_error",
        optimizer=fastgd.SGD(lr=lr),
        n_inputs=X.shape[1],
        dtype="float64",
    )
    net.set_weights([np.zeros((X.shape[1], 1)), co2[:1]])
    return net


RATES = (0.01, 0.05, 0.2)
errors, nets = {}, {}
for lr in RATES:
    net = nets[lr] = linear_model(lr)
    losses = [net.train_step(X[i : i + 1], co2[i : i + 1]) for i in range(len(co2))]
    errors[f"online, lr {lr:g}"] = np.sqrt(2 * np.array(losses))  # the loss is 0.5 (a - y)^2

# %%
# Beside them stands the same model, trained for 200 passes over the first five years and then left
# as it is. After that time only is compared.

is_early = year < year[0] + 5
frozen = linear_model(0.05)
frozen.fit(X[is_early], co2[is_early], epochs=200, verbose=0)
errors["trained on 5 years"] = np.abs(frozen.predict(X)[:, 0] - co2)
for name, error in errors.items():
    print(f"{name}: mean error {error[~is_early].mean():.2f} ppm")
last_week = np.abs(np.diff(co2))[~is_early[1:]]
print(f"last week's value: mean error {last_week.mean():.2f} ppm")

# %%
# The frozen model is off by ``25.85`` ppm on average. Online, the learning rate is the length of
# the memory: at 0.01 the model lags behind the level by ``2.57`` ppm, at 0.2 it is off by ``0.33``.
# That is less than last week's value, which knows no season: ``0.40``.

figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(5.6, 6.4), layout="constrained")
top.plot(year, co2, color="#0072B2", linewidth=1, label="measured")
top.plot(
    year, frozen.predict(X)[:, 0], "--", color="#000000", linewidth=1, label="trained on 5 years"
)
top.set_ylabel("CO2 in ppm")
top.legend()
window = 52
looks = zip(errors.items(), ("#D55E00", "#009E73", "#0072B2", "#000000"), ("-.", ":", "-", "--"),
            strict=True)  # fmt: skip
for (name, error), colour, style in looks:
    running = np.convolve(error, np.ones(window) / window, "valid")
    bottom.plot(year[window - 1 :], running, style, color=colour, label=name)
bottom.set(yscale="log", xlabel="year", ylabel=f"mean error of {window} weeks, ppm")
bottom.grid(alpha=0.3)
bottom.set_ylim(0.1, 500)
bottom.legend(loc="upper left", ncols=2)

# %%
# The weights can be read
# -----------------------
# What was learned about the season is the output without the bias. The frozen model and the one
# that went on agree about its shape. From the lowest to the highest of the year it was ``5.3`` ppm
# in the first five years, and is ``6.1`` at the end.

figure, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
month = np.linspace(0, 1, 200)
turn = 2 * np.pi * month
harmonics = np.column_stack([np.cos(turn), np.sin(turn), np.cos(2 * turn), np.sin(2 * turn)])
looks = (
    ("1958 to 1963", frozen, "#000000", "--"),
    ("online, lr 0.05, to 2001", nets[0.05], "#009E73", "-"),
)
for name, net, colour, style in looks:
    shape = harmonics @ net.layers[0].weight[:, 0]
    print(f"{name}: {np.ptp(shape):.1f} ppm from the lowest to the highest of the year")
    ax.plot(1 + 12 * month, shape, style, color=colour, label=name)
ax.set(xlabel="month", ylabel="season in ppm", xticks=range(1, 13))
ax.grid(alpha=0.3)
ax.legend()

plt.show()
