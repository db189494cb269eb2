"""A program of short tests, for tools that make each instruction a hundred times as slow.

    python tests/smoke.py [name ...]

Each function below is a test. Results are compared with the reference, or with each other.
"""

import copy
import pickle
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

import fastgd
from fastgd import kernels, reference

rng = np.random.default_rng(0)
X = rng.normal(size=(37, 7)).astype(np.float32)
LABELS = np.arange(37) % 3
TARGETS = rng.uniform(0, 1, (37, 3)).astype(np.float32)


def network(optimizer="sgd", loss="cross_entropy", **settings):
    layers = [fastgd.Dense(19, "tanh"), fastgd.Dense(5, "relu"), fastgd.Dense(3)]
    net = fastgd.Network(layers, loss, optimizer, n_inputs=7, **settings)
    net._engine.serial_flop = 0.0
    return net


def fitted(optimizer="sgd", n_threads=1, X=X, y=LABELS, **settings):
    net = network(optimizer, **settings)
    net.fit(X, y, epochs=2, batch_size=16, verbose=0, n_threads=n_threads)
    return net


def bits(net):
    return [view.tobytes() for view in net._arrays().values()]


def validated_fit():
    with fastgd.config(validate="always"):
        fitted()


def momentum_and_threads():
    one, three = (fitted(fastgd.SGD(0.1, momentum=0.9), n) for n in (1, 3))
    assert bits(one) == bits(three)


def adam_and_threads():
    assert bits(fitted("adam")) == bits(fitted("adam", 2))


def rmsprop():
    fitted(fastgd.RMSprop(0.01, momentum=0.5), dtype="float64")


def adagrad():
    fitted("adagrad")


def clipped_norm():
    fitted(fastgd.SGD(0.1, clip_norm=0.5), 2)


def other_losses():
    for loss in ("squared_error", "absolute_error", "huber", "log_loss", "poisson"):
        fitted(loss=loss, y=TARGETS)


def other_dtypes_and_layouts():
    for dtype in ("uint8", "int16", "float64", "bool"):
        fitted(X=np.asfortranarray(np.abs(X)).astype(dtype)[::-1])


def dropout_and_penalties():
    layers = [fastgd.Dense(18, "gelu", dropout=0.3, l1=0.01, l2=0.01), fastgd.Dense(3)]
    net = fastgd.Network(layers, "cross_entropy", "adam")
    net.fit(X, LABELS, epochs=1, batch_size=9, verbose=0, sample_weight=np.ones(37))


def one_sample_at_a_time():
    for n_inputs in (3, 7):
        net = fastgd.Network([fastgd.Dense(1)], "squared_error", n_inputs=n_inputs)
        net.fit(X[:, :n_inputs], TARGETS[:, 0], epochs=2, batch_size=1, verbose=0)


def steps():
    net = network("adamw")
    for n in (5, 37, 12, 37):
        net.train_step(X[:n], LABELS[:n])


def predictions():
    net = network()
    rows = net.predict(X, n_threads=2)
    assert rows[4].tobytes() == net.predict(X[4:5])[0].tobytes()
    net.evaluate(X, LABELS, metrics="accuracy")


def gradients():
    net = network()
    net.loss_and_grad(X, LABELS)
    net.gradient_flow(X, LABELS)


def files():
    net = fitted("adam")
    with tempfile.TemporaryDirectory() as folder:
        net.save(Path(folder) / "model")
        assert bits(fastgd.load(Path(folder) / "model")) == bits(net)


def copies():
    net = fitted("adam")
    assert bits(pickle.loads(pickle.dumps(net))) == bits(copy.deepcopy(net)) == bits(net)


def views_outlive_the_network():
    net = fitted("adam")
    weight, state = net.layers[0].weight, net._engine.optimizer_state()["exp_avg"][0][0]
    net.optimizer = "sgd"
    del net
    assert np.isfinite(weight).all()
    assert np.isfinite(state).all()


def blocks():
    net = network()
    net.fit(fastgd.Blocks(X, LABELS, buffer_rows=16), epochs=2, batch_size=8, verbose=0)
    net.predict(fastgd.Blocks([X, X[:3]]))


def refusals():
    net = network()
    for wrong in (X[:, :3], X * np.nan, "text"):
        try:
            net.fit(wrong, LABELS, verbose=0)
        except (ValueError, TypeError):
            continue
        raise AssertionError("not refused")


def networks_in_threads():
    nets = [network("adam") for _ in range(3)]
    threads = [
        threading.Thread(target=net.fit, args=(X, LABELS), kwargs={"verbose": 0, "n_threads": 2})
        for net in nets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bits(nets[0]) == bits(nets[1]) == bits(nets[2])


def plain_functions():
    W, b = np.ones((7, 3), np.float32), np.zeros(3, np.float32)
    for act in ("relu", "gelu", "softmax", "mish"):
        a = kernels.forward(X, W, b, act)
        # That it computes at all; under memcheck what counts is what is read. The bounds are in
        # test_kernels.py.
        assert np.allclose(a, reference.forward(X, W, b, act), rtol=1e-5, atol=1e-6)
    delta = kernels.backward(TARGETS, W, "tanh", a=X)
    kernels.weight_grad(X, TARGETS)
    kernels.adam_update(W, b, X, TARGETS, {}, lr=0.1)
    assert np.isfinite(delta).all()


TESTS = {
    name: value
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__module__", None) == __name__
    and name not in ("network", "fitted", "bits")
}


def main():
    names = sys.argv[1:] or list(TESTS)
    for name in names:
        TESTS[name]()
        print(name, flush=True)
    print(f"{len(names)} tests passed on {fastgd.active_isa()}")


if __name__ == "__main__":
    main()
