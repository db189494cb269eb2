"""
A PyTorch module, trained in place
==================================

:func:`fastgd.torch.fit` takes the place of the training loop. Module, loss and optimiser stay
PyTorch's own, the batches are those of a ``DataLoader``, and the numbers agree.

The data are bundled with fastgd: 1797 images of 8 x 8 pixels by E. Alpaydin and C. Kaynak (Optical
Recognition of Handwritten Digits, UCI, 1998), under CC BY 4.0.
"""

import copy
import time

import numpy as np

from fastgd.datasets import load_digits_split

try:
    import matplotlib.pyplot as plt
except ImportError:
    raise SystemExit("this example needs matplotlib: pip install 'fastgd[plot]'") from None
try:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset
except ImportError:
    raise SystemExit("this example needs PyTorch: pip install 'fastgd[torch]'") from None
import fastgd.torch

# %%
# One module, twice
# -----------------

X, y, X_test, y_test = (torch.from_numpy(array) for array in load_digits_split())
X, X_test = X.float() / 16, X_test.float() / 16
EPOCHS, BATCH_SIZE = 30, 32

torch.manual_seed(0)
module = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
twin = copy.deepcopy(module)
loss = nn.CrossEntropyLoss()


def sgd(module):
    return torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)


# %%
# A plain loop
# ------------
# The loss of an epoch is the mean over its batches as the weights moved.

by_loop, loop_losses = sgd(twin), []
torch.manual_seed(1)
began = time.perf_counter()
for _ in range(EPOCHS):
    total = 0.0
    for x_batch, y_batch in DataLoader(TensorDataset(X, y), BATCH_SIZE, shuffle=True):
        by_loop.zero_grad()
        value = loss(twin(x_batch), y_batch)
        value.backward()
        by_loop.step()
        total += value.item() * len(x_batch)
    loop_losses.append(total / len(X))
loop_seconds = time.perf_counter() - began

# %%
# One call
# --------

torch.manual_seed(1)
began = time.perf_counter()
history = fastgd.torch.fit(
    module,
    X,
    y,
    loss=loss,
    optimizer=sgd(module),
    epochs=EPOCHS,
    batch_size=BATCH_SIZE,
    verbose=0,
)
fit_seconds = time.perf_counter() - began

# %%
# The same numbers
# ----------------

losses = np.array(history.history["loss"])
difference = np.abs(losses / loop_losses - 1).max()
print(f"loss of the first epoch {losses[0]:.4f}, by the loop {loop_losses[0]:.4f}")
print(f"largest relative difference of the losses of {EPOCHS} epochs below 1e-3: "
      f"{difference < 1e-3}")  # fmt: skip
answers = [net(X_test).argmax(1) for net in (module, twin)]
agree = (answers[0] == answers[1]).double().mean().item()
right = (answers[0] == y_test).double().mean().item()
print(f"test accuracy above 0.97: {right > 0.97}; both give the same answer to {agree:.1%}")
print(f"the loop took {loop_seconds / fit_seconds:.0f} times as long here")

figure, ax = plt.subplots(figsize=(5.6, 4.0), layout="constrained")
epochs = np.arange(1, EPOCHS + 1)
ax.plot(epochs, loop_losses, "o", color="#D55E00", markerfacecolor="none", markersize=8,
        label=f"loop ({loop_seconds:.2f} s)")  # fmt: skip
ax.plot(epochs, losses, ".-", color="#0072B2", label=f"fastgd.torch.fit ({fit_seconds:.2f} s)")
ax.set(xlabel="epoch", ylabel="cross-entropy", yscale="log")
ax.grid(alpha=0.3)
ax.legend()

# %%
# The points lie on each other, and the two give the same answer to ``100.0%`` of the test images.
# The parameters are the module's own, and the optimiser's moments are where PyTorch keeps them, so
# a program goes on as if it had run the loop. The times are those of the machine that ran this.

plt.show()
