"""
Fashion-MNIST
=============

60,000 images of clothes, trained on as the bytes that they are in the file.

The data are the four IDX files of Debian's package ``dataset-fashion-mnist`` (Zalando SE, under the
MIT licence), by default in ``/usr/share/datasets/fashion-mnist``. The environment variable
``FASTGD_FASHION_MNIST`` names another folder.
"""

import os
from pathlib import Path

import numpy as np

import fastgd
from fastgd import tables

try:
    import matplotlib.pyplot as plt
except ImportError:
    raise SystemExit("this example needs matplotlib: pip install 'fastgd[plot]'") from None

# %%
# The data
# --------
# :func:`fastgd.tables.read` finds the labels that belong to a file of images.

folder = Path(os.environ.get("FASTGD_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
if not (folder / "train-images-idx3-ubyte.gz").is_file():
    raise SystemExit(
        f"{folder} does not have Fashion-MNIST: install Debian's package dataset-fashion-mnist, or "
        "set FASTGD_FASHION_MNIST to the folder of its files"
    )


def images_and_labels(part):
    found = tables.read(folder / f"{part}-images-idx3-ubyte.gz")
    assert isinstance(found, tables.Arrays)
    assert found.y is not None
    return found.X, found.y


X, y = images_and_labels("train")
X_test, y_test = images_and_labels("t10k")
CLASSES = ["T-shirt", "trousers", "pullover", "dress", "coat",
           "sandal", "shirt", "sneaker", "bag", "boot"]  # fmt: skip
print(f"{X.shape[0]} images of {X.shape[1]} pixels, {X.dtype}")

# %%
# Training on bytes
# -----------------
# ``input_scale`` multiplies the pixels while a batch is gathered. A copy of the images as float32
# would be four times as large, and is never made.

net = fastgd.Network(
    [fastgd.Dense(128, "relu"), fastgd.Dense(10)],
    loss="cross_entropy",
    optimizer=fastgd.SGD(lr=0.1, momentum=0.9),
    input_scale=1 / 255,
)
history = net.fit(
    X,
    y,
    epochs=5,
    batch_size=128,
    validation_data=(X_test, y_test),
    metrics="accuracy",
    verbose=0,
)
print(f"test accuracy {history.history['val_accuracy'][-1]:.4f} after 5 epochs")
history.plot(["loss", "accuracy"])

# %%
# After 5 epochs ``0.8638`` of the test images are recognised.
#
# Which clothes are hard
# ----------------------

output = net.predict(X_test)
predicted = output.argmax(axis=1)
share = np.array([(predicted == y_test)[y_test == i].mean() for i in range(10)])
order = np.argsort(share)
for i in (order[0], order[-1]):
    print(f"{CLASSES[i]}: {share[i]:.1%} right")

figure, ax = plt.subplots(figsize=(5.6, 4.0), layout="constrained")
ax.barh(range(10), 100 * share[order], color="#0072B2")
ax.set_yticks(range(10), [CLASSES[i] for i in order])
ax.set(xlabel="recognised in %", xlim=(0, 100))
ax.grid(axis="x", alpha=0.3)

# %%
# Shirts are hardest, with ``50.4%`` right. These are the mistakes of which the network was surest.

wrong = np.flatnonzero(predicted != y_test)
surest = wrong[np.argsort(-output.max(axis=1)[wrong], kind="stable")[:6]]
figure, panels = plt.subplots(2, 3, figsize=(5.6, 4.6), layout="constrained")
for ax, i in zip(panels.flat, surest, strict=True):
    ax.imshow(X_test[i].reshape(28, 28), cmap="gray_r")
    ax.set_title(f"{CLASSES[y_test[i]]},\nseen as {CLASSES[predicted[i]]}", fontsize=10)
    ax.axis("off")

plt.show()
