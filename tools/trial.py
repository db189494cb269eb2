"""Train, evaluate and check with the fastgd that is installed, and fail if it is another one."""

import fastgd
from fastgd.datasets import load_digits_split

assert "site-packages" in fastgd.__file__, fastgd.__file__
X, y, X_test, y_test = load_digits_split()
net = fastgd.Network(
    [fastgd.Dense(64, "relu"), fastgd.Dense(10)],
    loss="cross_entropy",
    optimizer=fastgd.SGD(lr=0.05, momentum=0.9),
)
net.fit(X / 16, y, epochs=30, batch_size=32, verbose=0)
accuracy = net.evaluate(X_test / 16, y_test, metrics="accuracy")["accuracy"]
assert accuracy >= 0.95, accuracy
assert fastgd.check(verbose=False).passed
print(f"installed: fastgd {fastgd.__version__}, accuracy {accuracy:.4f}, every kernel checked")
