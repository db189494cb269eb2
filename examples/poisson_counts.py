"""
Counts
======

How often does a person see a doctor in a year? Counts are not negative, and spread more where they
are high: the Poisson loss takes both into account.

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
# The package is not imported: only its file is read. Every fifth person is for testing: years of
# one person are alike, and must not be on both sides. The scales bring every input to some 0 to 1;
# the counts stay as they are.

package = importlib.util.find_spec("statsmodels")
if package is None or package.origin is None:
    raise SystemExit("this example needs statsmodels: pip install 'fastgd[examples]'")
file = Path(package.origin).parent / "datasets" / "randhie" / "src" / "randhie.csv"
SCALES = {
    "xage": 60, "female": 1, "linc": 10, "num": 10,  # log of the income, size of the family
    "coins": 100, "idp": 1,  # share of the bill in %, deductible for each person
    "disea": 60, "xghindx": 100, "physlm": 1,  # diseases, general health, limitations
}  # fmt: skip
with file.open(encoding="utf-8", newline="") as lines:
    rows = list(csv.DictReader(lines))
X = np.array([[float(row[name]) / scale for name, scale in SCALES.items()] for row in rows])
visits, person = (np.array([float(row[name]) for row in rows]) for name in ("mdvis", "zper"))
is_test = np.unique(person, return_inverse=True)[1] % 5 == 4
measured = visits[is_test]
print(f"mean {visits.mean():.2f} visits, variance {visits.var():.1f}, most {visits.max():.0f}")

# %%
# Two models
# ----------
# The last layer names no activation: with the Poisson loss that is exp, and the output is the
# expected number of visits. Without a hidden layer this is Poisson regression. The
# learning rate falls to 0, so that the last batches do not shake the result.

EPOCHS, BATCH_SIZE = 20, 64
n_steps = EPOCHS * -(-int((~is_test).sum()) // BATCH_SIZE)
outputs = {"the mean, for everybody": np.full(len(measured), visits[~is_test].mean())}
for name, hidden in (("Poisson regression", []), ("16 hidden units", [fastgd.Dense(16, "tanh")])):
    net = fastgd.Network(
        [*hidden, fastgd.Dense(1)],
        loss="poisson",
        optimizer=fastgd.Adam(lr=fastgd.schedules.Cosine(0.005, n_steps)),
    )
    net.fit(X[~is_test], visits[~is_test], epochs=EPOCHS, batch_size=BATCH_SIZE, verbose=0)
    outputs[name] = net.predict(X[is_test])[:, 0].astype(float)

# %%
# Deviance
# --------
# The deviance ``2 (y log(y / mean) - y + mean)`` is to the Poisson loss what the squared error is
# to a normal distribution: 0 where the output is the count, and twice the loss but for what depends
# on the counts alone.


def deviance(y, mean):
    """Return the mean Poisson deviance; 0 log 0 is 0."""
    return 2 * (y * np.log(np.where(y > 0, y, 1) / mean) - y + mean).mean()


deviances = {name: deviance(measured, mean) for name, mean in outputs.items()}
base = next(iter(deviances.values()))
for name, value in deviances.items():
    print(f"{name}: deviance {value:.3f}, {1 - value / base:.1%} explained")

# %%
# The network explains ``9.7%`` of the deviance, Poisson regression ``8.2%``. A good part of what
# is left is chance, and habit that these nine columns do not show.
#
# Calibration
# -----------
# Sort the test rows by the expected number, divide them into ten equal parts, and count: the mean
# of the visits should be what was expected. The bars are two standard errors, a little short: they
# take the years of one person as independent.

figure, ax = plt.subplots(figsize=(5.6, 4.6), layout="constrained")
looks = zip(("16 hidden units", "Poisson regression"), ("#0072B2", "#D55E00"), "os", strict=True)
for name, colour, marker in looks:
    parts = np.array_split(np.argsort(outputs[name], kind="stable"), 10)
    expected = [outputs[name][part].mean() for part in parts]
    counted = [measured[part].mean() for part in parts]
    error = [2 * measured[part].std() / np.sqrt(len(part)) for part in parts]
    ax.errorbar(expected, counted, error, color=colour, fmt=marker, capsize=3, label=name)
    print(f"{name}: {expected[0]:.2f} expected and {counted[0]:.2f} counted in the lowest part, "
          f"{expected[-1]:.2f} and {counted[-1]:.2f} in the highest")  # fmt: skip
ax.axline((0, 0), slope=1, color="0.3", linestyle=":", label="as expected")
ax.set(xlabel="expected visits a year", ylabel="visits counted, mean of a tenth")
ax.set(xlim=(0, None), ylim=(0, None))
ax.grid(alpha=0.3)
ax.legend()

# %%
# Counts are more spread than a Poisson distribution has it (the variance would be the mean). The
# means are right all the same, since the loss asks for nothing else; intervals would not be.

figure, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
counts = np.arange(16)
mean = outputs["16 hidden units"][:, None]
log_factorial = np.concatenate([[0], np.cumsum(np.log(counts[1:]))])
chance = np.exp(counts * np.log(mean) - mean - log_factorial).mean(axis=0)
share = np.array([(measured == count).mean() for count in counts])
print(f"no visit: {share[0]:.1%} of the rows, {chance[0]:.1%} by the Poisson distribution")
ax.bar(counts, 100 * share, color="#0072B2", alpha=0.7, label="counted")
ax.plot(counts, 100 * chance, "o--", color="#D55E00", label="Poisson, of the network's means")
ax.set(xlabel="visits a year", ylabel="share of rows in %")
ax.legend()

# %%
# ``30.8%`` of the years are without a visit; the distributions add up to ``9.8%``.

plt.show()
