"""
Where gradients vanish
======================

Eight hidden layers with sigmoid do not learn at all. :class:`fastgd.GradientFlow` shows why, and a
second network shows the cure.

The data are bundled with fastgd: 1797 images of 8 x 8 pixels by E. Alpaydin and C. Kaynak (Optical
Recognition of Handwritten Digits, UCI, 1998), under CC BY 4.0.
"""

import warnings

import fastgd
from fastgd.callbacks import GradientFlowWarning
from fastgd.datasets import load_digits_split

try:
    import matplotlib.pyplot as plt
except ImportError:
    raise SystemExit("this example needs matplotlib: pip install 'fastgd[plot]'") from None

X, y, X_test, y_test = load_digits_split()


def deep_network(activation, lr):
    """Return a network of eight hidden layers."""
    return fastgd.Network(
        [fastgd.Dense(32, activation) for _ in range(8)] + [fastgd.Dense(10)],
        loss="cross_entropy",
        optimizer=fastgd.SGD(lr=lr),
        n_inputs=64,
        input_scale=1 / 16,
    )


# %%
# One look before training
# ------------------------
# :meth:`fastgd.Network.gradient_flow` goes through one step and changes nothing. ``|delta|`` is the
# norm of the derivative of the loss with respect to a layer's pre-activations.

sigmoid = deep_network("sigmoid", lr=0.1)
report = sigmoid.gradient_flow(X[:256], y[:256])
print(f"|delta| at the output {report.delta_norm[-1]:.1e}, at the first layer "
      f"{report.delta_norm[0]:.1e}")  # fmt: skip
print(report.warnings[0])
report.plot()

# %%
# From the output, ``6.0e-02``, to the first layer, ``8.0e-07``, every layer has multiplied it by
# weights and by the derivative of the sigmoid, which is at most 1/4.
#
# Over time
# ---------
# The callback looks after every fifth epoch, and says what is wrong the first time that it sees it.

flows, accuracies = {}, {}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", GradientFlowWarning)
    for name, net in (("sigmoid", sigmoid), ("relu", deep_network("relu", lr=0.1))):
        flows[name] = fastgd.GradientFlow(every=5)
        history = net.fit(
            X,
            y,
            epochs=60,
            validation_data=(X_test, y_test),
            metrics="accuracy",
            callbacks=[flows[name]],
            verbose=0,
        )
        accuracies[name] = history.history["val_accuracy"]
        print(f"{name}: test accuracy {accuracies[name][-1]:.4f}")
print(caught[0].message)
flows["sigmoid"].plot(["delta_norm", "update_ratio"])

# %%
# Nothing moves: a step changes the first layer by less than a millionth of its weights, and the
# network guesses, with ``0.0989`` right.
#
# The cure
# --------
# The derivative of relu is 1 or 0, so that what passes, passes undiminished. The layers, the seed
# and the learning rate are the same.

flows["relu"].plot(["delta_norm", "update_ratio"])

# %%
# ``0.9725`` of the test images are read right.

figure, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
for (name, values), colour, style in zip(
    accuracies.items(), ("#D55E00", "#0072B2"), ("--", "-"), strict=True
):
    ax.plot(range(1, len(values) + 1), values, style, color=colour, label=name)
ax.axhline(0.1, color="0.3", linestyle=":", label="guessing")
ax.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1))
ax.grid(alpha=0.3)
ax.legend(loc="center right")

plt.show()
