"""
Handwritten digits
==================

A network with one hidden layer learns to read digits. How to train it, how to watch it, and how to
see which digits it mixes up.

The data are bundled with fastgd: 1797 images of 8 x 8 pixels by E. Alpaydin and C. Kaynak (Optical
Recognition of Handwritten Digits, UCI, 1998), under CC BY 4.0.
"""

import numpy as np

import fastgd
from fastgd.datasets import load_digits_split

try:
    import matplotlib.pyplot as plt
except ImportError:
    raise SystemExit("this example needs matplotlib: pip install 'fastgd[plot]'") from None

# %%
# The data
# --------
# :func:`fastgd.datasets.load_digits_split` divides them always in the same way: of each class,
# every fifth image is for testing. Pixels go from 0 to 16, which ``input_scale`` brings to 0 to 1
# while a batch is gathered, so the images stay bytes.

X, y, X_test, y_test = load_digits_split()
print(f"{len(X)} images to train on, {len(X_test)} to test on")

# %%
# The network
# -----------
# The last layer has one unit for each digit. It names no activation: with ``cross_entropy`` that
# is softmax. ``summary`` prints its layers; a notebook shows ``net`` as a table.

net = fastgd.Network(
    [fastgd.Dense(128, "relu"), fastgd.Dense(10)],
    loss="cross_entropy",
    optimizer=fastgd.SGD(lr=0.05, momentum=0.9, nesterov=True),
    n_inputs=64,
    input_scale=1 / 16,
)
net.summary()

# %%
# Training
# --------
# :meth:`fastgd.Network.fit` returns a :class:`fastgd.History`, which draws itself.

history = net.fit(X, y, epochs=60, validation_data=(X_test, y_test), metrics="accuracy", verbose=0)
print(f"loss {history.history['loss'][-1]:.4f}")
print(f"test loss {history.history['val_loss'][-1]:.4f}")
print(f"test accuracy {history.history['val_accuracy'][-1]:.4f}")
history.plot(["loss", "accuracy"])

# %%
# The training loss falls to ``0.0032``, the test loss ends at ``0.1141``: the network knows the
# images that it was trained on better than others, as is usual. It reads ``0.9780`` of the test
# images right.
#
# What it mixes up
# ----------------
# Each row of the confusion matrix is a digit, each column an answer.

predicted = net.predict(X_test).argmax(axis=1)
confusion = np.zeros((10, 10), dtype=int)
np.add.at(confusion, (y_test, predicted), 1)
wrong = np.flatnonzero(predicted != y_test)
print(f"{len(wrong)} of {len(y_test)} wrong")

figure, ax = plt.subplots(figsize=(5.6, 5.2), layout="constrained")
image = ax.imshow(confusion, cmap="viridis")
for (row, column), count in np.ndenumerate(confusion):
    if count:
        ax.text(
            column, row, count, ha="center", va="center", color="black" if count > 18 else "white"
        )
ax.set(xlabel="answer", ylabel="digit", xticks=range(10), yticks=range(10))
figure.colorbar(image, label="images", shrink=0.9)

# %%
# ``8`` images are wrong. Here they are, with the answers and how sure the network was of them.

figure, panels = plt.subplots(2, 4, figsize=(5.6, 3.4), layout="constrained")
certainty = net.predict(X_test).max(axis=1)
for ax, i in zip(panels.flat, wrong, strict=True):
    ax.imshow(X_test[i].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"{y_test[i]}, read as {predicted[i]}\n({certainty[i]:.0%} sure)", fontsize=10)
    ax.axis("off")

plt.show()
