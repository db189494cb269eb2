"""Bad input: a clear error, nothing written, for every way data and settings can be wrong."""

import numpy as np
import pytest

import fastgd
from fastgd import Dense, Network, activations, kernels, reference

X = np.random.default_rng(0).normal(size=(12, 4))
LABELS = np.arange(12) % 3
VALUES = np.random.default_rng(1).uniform(size=(12, 3))


def network(loss="cross_entropy", units=3, **settings):
    return Network(
        [Dense(5, "relu"), Dense(units)], loss, fastgd.SGD(0.1, 0.9), **{"n_inputs": 4} | settings
    )


def with_value(array, place, value):
    array = np.array(array, dtype=np.float64)
    array[place] = value
    return array


BAD_X = {
    "too many features": (np.ones((12, 5)), "X has 5 features, but the network takes 4"),
    "too few features": (np.ones((12, 3)), "X has 3 features, but the network takes 4"),
    "no features": (np.ones((12, 0)), "X has no features"),
    "no samples": (np.ones((0, 4)), "X is empty"),
    "empty list": ([], "X is empty"),
    "one dimension": (np.ones(12), r"X\.reshape\(-1, 1\)"),
    "three dimensions": (np.ones((12, 2, 2)), r"X\.reshape\(len\(X\), -1\)"),
    "a number": (3.0, "two dimensions, not 0"),
    "none": (None, "dtype object"),
    "nan": (with_value(X, (7, 2), np.nan), r"X\[7, 2\] is nan; all values must be finite"),
    "inf": (with_value(X, (11, 0), np.inf), r"X\[11, 0\] is inf"),
    "minus inf": (with_value(X, (0, 3), -np.inf), r"X\[0, 3\] is -inf"),
    "nan in float16": (with_value(X, (1, 1), np.nan).astype(np.float16), r"X\[1, 1\] is nan"),
    "nan in big endian": (with_value(X, (1, 1), np.nan).astype(">f4"), r"X\[1, 1\] is nan"),
    "nan in Fortran order": (np.asfortranarray(with_value(X, (5, 1), np.nan)), r"X\[5, 1\] is nan"),
    "nan in a strided view": (
        np.repeat(np.repeat(with_value(X, (5, 1), np.nan), 2, 0), 2, 1)[::2, ::2],
        r"X\[5, 1\] is nan",
    ),
    "object": (X.astype(object), r"X has dtype object; .*\.astype\(float\)"),
    "complex": (X.astype(complex), "X has dtype complex128; real numbers are needed"),
    "strings": (X.astype(str), "X has dtype <U.*encode text"),
    "bytes": (X.astype("S8"), r"X has dtype \|S8.*encode text"),
    "dates": (np.zeros((12, 4), "datetime64[s]"), "X has dtype datetime64"),
    "records": (np.zeros((12, 4), [("a", float)]), "X has dtype"),
    "ragged": ([[1.0, 2.0], [3.0]], "X cannot be read as an array"),
    "masked": (np.ma.masked_greater(X, 0), "X has masked elements"),
    "masked rows": (list(np.ma.masked_greater(X, 0)), "X has masked elements"),
    "one masked row": ([*X[:11], np.ma.masked_less(X[11], 9)], "X has masked elements"),
    "masked in lists": ([*X.tolist()[:11], [1.0, 2, 3, np.ma.masked]], "X has masked elements"),
    "sparse": (type("Sparse", (), {"toarray": None})(), r"X is sparse; give X\.toarray\(\)"),
}
CALLS = ["fit", "train_step", "loss_and_grad", "evaluate", "validate"]


def state(net):
    return {name: view.tobytes() for name, view in net._arrays().items()}, net.step, net.epoch


def call(net, method, *args, **kwargs):
    if method == "fit":
        kwargs |= {"verbose": 0}
    return getattr(net, method)(*args, **kwargs)


@pytest.mark.parametrize("warm", [False, True], ids=["first call", "later call"])
@pytest.mark.parametrize("method", [*CALLS, "predict"])
@pytest.mark.parametrize("case", BAD_X)
def test_bad_X_is_refused_and_nothing_is_written(case, method, warm):
    bad, message = BAD_X[case]
    net = network()
    if warm:
        net.train_step(X, LABELS)
        net.train_step(X.astype(np.float32), LABELS)
    before = state(net)
    with pytest.raises(ValueError, match=message):
        call(net, method, *((bad,) if method == "predict" else (bad, LABELS)))
    assert state(net) == before


@pytest.mark.parametrize("case", [case for case in BAD_X if "features" not in case])
def test_bad_X_does_not_build_a_network(case):
    net = network(n_inputs=None)
    bad, message = BAD_X[case]
    with pytest.raises(ValueError, match=message):
        net.fit(bad, LABELS, verbose=0)
    assert net.n_inputs is None
    net.fit(X, LABELS, verbose=0)
    assert net.n_inputs == 4


BAD_LABELS = {
    "too long": (np.arange(13) % 3, "X has 12 samples, but y has 13"),
    "too short": (np.arange(11) % 3, "X has 12 samples, but y has 11"),
    "a number": (1, "one entry for each sample"),
    "negative": (with_value(LABELS, 4, -1).astype(int), r"label y\[4\] = -1 is negative"),
    "beyond": (
        with_value(LABELS, 9, 3).astype(int),
        r"label y\[9\] = 3 is beyond the network's 3 outputs: labels run from 0 to 2",
    ),
    "far beyond": (np.full(12, 2**63, np.uint64), "is beyond the network's 3 outputs"),
    "floats": (with_value(LABELS, 9, 3), r"label y\[9\] = 3 is beyond"),
    "a huge float": (with_value(LABELS, 9, 1e300), r"y\[9\] = 1\.\d*e\+300 is beyond"),
    "not integers": (with_value(LABELS, 2, 1.5), r"must be integers, but y\[2\] is 1.5"),
    "ragged": ([[1], [1, 2]], "y cannot be read as an array"),
    "masked": (list(np.ma.masked_equal(LABELS, 1)), "y has masked elements"),
    "nan": (with_value(LABELS, 2, np.nan), r"must be integers, but y\[2\] is nan"),
    "inf": (with_value(LABELS, 2, np.inf), r"must be integers, but y\[2\] is inf"),
    "strings": (np.array(["a", "b", "c"] * 4), r"np\.unique\(y, return_inverse=True\)"),
    "object": (LABELS.astype(object), "y has dtype object"),
    "complex": (LABELS.astype(complex), "y has dtype complex128"),
    "two columns": (np.ones((12, 2)), r"y has shape \(12, 2\).*\(12,\) for labels or \(12, 3\)"),
    "three dimensions": (np.ones((12, 3, 1)), r"y has shape \(12, 3, 1\)"),
    "negative probability": (
        with_value(np.full((12, 3), 1 / 3), (5, 1), -0.1),
        r"probabilities, but y\[5, 1\] is -0.1",
    ),
    "sum": (with_value(np.full((12, 3), 1 / 3), (5, 1), 0.5), r"y\[5\] sums to 1.16667"),
    "nan probability": (with_value(np.eye(3)[LABELS], (3, 0), np.nan), r"y\[3, 0\] is nan"),
}


@pytest.mark.parametrize("warm", [False, True], ids=["first call", "later call"])
@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels_are_refused_and_nothing_is_written(case, method, warm):
    bad, message = BAD_LABELS[case]
    net = network()
    if warm:
        net.train_step(X, LABELS)
    before = state(net)
    # float32 and int64 would take the short way of train_step
    data = X.astype(np.float32) if warm else X
    with pytest.raises(ValueError, match=message):
        call(net, method, data, bad)
    assert state(net) == before


@pytest.mark.parametrize("warm", [False, True], ids=["first call", "later call"])
@pytest.mark.parametrize("method", CALLS)
def test_targets_that_are_missing_are_named(method, warm):
    net = network()
    data = X.astype(np.float32)
    if warm:
        net.train_step(data, LABELS)
    before = state(net)
    with pytest.raises(TypeError, match=r"^y is missing"):
        call(net, method, data, None)
    with pytest.raises(TypeError, match=r"^validation y is missing"):
        net.fit(X, LABELS, validation_data=(X, None), verbose=0)
    assert state(net) == before


BAD_TARGETS = {
    ("squared_error", "length"): (VALUES[:5], "X has 12 samples, but y has 5"),
    ("squared_error", "columns"): (VALUES[:, :2], r"y has shape \(12, 2\); the network needs"),
    ("squared_error", "one dimension"): (VALUES[:, 0], r"y has shape \(12,\); the network needs"),
    ("squared_error", "nan"): (with_value(VALUES, (3, 1), np.nan), r"y\[3, 1\] is nan"),
    ("squared_error", "inf"): (with_value(VALUES, (3, 1), np.inf), r"y\[3, 1\] is inf"),
    ("squared_error", "object"): (VALUES.astype(object), "y has dtype object"),
    ("squared_error", "strings"): (VALUES.astype(str), "y has dtype <U"),
    ("huber", "nan"): (with_value(VALUES, (0, 0), np.nan), r"y\[0, 0\] is nan"),
    ("absolute_error", "inf"): (with_value(VALUES, (0, 0), np.inf), r"y\[0, 0\] is inf"),
    ("log_loss", "above 1"): (
        with_value(VALUES, (4, 2), 1.5),
        r"targets from 0 to 1, but y\[4, 2\] is 1.5",
    ),
    ("log_loss", "negative"): (with_value(VALUES, (4, 2), -0.5), r"but y\[4, 2\] is -0.5"),
    ("log_loss", "nan"): (with_value(VALUES, (4, 2), np.nan), r"y\[4, 2\] is nan"),
    ("poisson", "negative"): (with_value(VALUES, (4, 2), -1), r"not negative, but y\[4, 2\] is -1"),
    ("poisson", "inf"): (with_value(VALUES, (4, 2), np.inf), r"y\[4, 2\] is inf"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("warm", [False, True], ids=["first call", "later call"])
@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("case", BAD_TARGETS, ids="-".join)
def test_bad_targets_are_refused_and_nothing_is_written(case, method, warm, dtype):
    bad, message = BAD_TARGETS[case]
    net = network(case[0], dtype=dtype)
    data = X.astype(dtype)
    if warm:
        net.train_step(data, VALUES.astype(dtype))
    if np.asarray(bad).dtype.kind == "f":
        bad = bad.astype(dtype)
    before = state(net)
    with pytest.raises(ValueError, match=message):
        call(net, method, data, bad)
    assert state(net) == before


BAD_WEIGHTS = {
    "length": (np.ones(11), "X has 12 samples, but sample_weight has 11"),
    "a column": (np.ones((12, 1)), r"sample_weight must have shape \(12,\)"),
    "a number": (1.0, "one entry for each sample"),
    "negative": (with_value(np.ones(12), 3, -0.5), r"negative, but sample_weight\[3\] is -0.5"),
    "nan": (with_value(np.ones(12), 3, np.nan), r"sample_weight\[3\] is nan"),
    "inf": (with_value(np.ones(12), 3, np.inf), r"sample_weight\[3\] is inf"),
    "zeros": (np.zeros(12), "sum of sample_weight must be positive"),
    "zeros in float32": (np.full(12, 1e-40), "below 1.18e-38, the smallest number"),
    "too large for float32": (
        with_value(np.ones(12), 3, 1e39),
        r"sample_weight\[3\] is 1e\+39, beyond the range of float32",
    ),
    "strings": (np.full(12, "a"), "sample_weight has dtype"),
    "object": (np.ones(12, object), "sample_weight has dtype object"),
}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights_are_refused_and_nothing_is_written(case, method):
    bad, message = BAD_WEIGHTS[case]
    net = network()
    net.train_step(X, LABELS)
    before = state(net)
    with pytest.raises(ValueError, match=message):
        call(net, method, X, LABELS, sample_weight=bad)
    assert state(net) == before


def test_weights_whose_sum_overflows_are_refused():
    net = network(dtype="float64")
    with pytest.raises(ValueError, match="sum of sample_weight must be positive and finite"):
        net.fit(X, LABELS, sample_weight=np.full(12, 1e308), verbose=0)
    assert net.step == 0


@pytest.mark.parametrize("case", BAD_X)
def test_bad_validation_data_are_refused_before_training(case):
    bad, message = BAD_X[case]
    net = network()
    before = state(net)
    with pytest.raises(ValueError, match="validation .*" + message):
        net.fit(X, LABELS, validation_data=(bad, LABELS), verbose=0)
    assert state(net) == before


def test_bad_validation_data_of_other_kinds():
    net = network()
    before = state(net)
    for bad, error, message in [
        (X, TypeError, r"validation_data must be \(X, y\), \(X, y, sample_weight\) or Bl"),
        ((X,), TypeError, "validation_data must be"),
        ((X, LABELS, np.ones(12), 1), TypeError, "validation_data must be"),
        ((X, LABELS[:5]), ValueError, "validation X has 12 samples, but validation y has 5"),
        ((X, LABELS + 1), ValueError, r"label validation y\[2\] = 3 is beyond"),
        ((X, LABELS, -np.ones(12)), ValueError, "validation sample_weight must not be negative"),
    ]:
        with pytest.raises(error, match=message):
            net.fit(X, LABELS, validation_data=bad, verbose=0)
    waiting = network(n_inputs=None)
    with pytest.raises(ValueError, match="validation X has 3 features, but X has 4"):
        waiting.fit(X, LABELS, validation_data=(X[:, :3], LABELS), verbose=0)
    assert waiting.n_inputs is None
    assert state(net) == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1, not 0"),
        ({"epochs": -2}, ValueError, "epochs must be at least 1"),
        ({"epochs": 2.0}, TypeError, r"epochs must be an integer, not 2\.0"),
        ({"epochs": True}, TypeError, "epochs must be an integer, not True"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"batch_size": -8}, ValueError, "batch_size must be at least 1"),
        ({"batch_size": 16.5}, TypeError, "batch_size must be an integer"),
        ({"batch_size": "32"}, TypeError, "batch_size must be an integer"),
        ({"batch_size": None}, TypeError, "batch_size must be an integer"),
        ({"batch_size": np.True_}, TypeError, "batch_size must be an integer"),
        ({"shuffle": 1}, TypeError, "shuffle must be True or False"),
        ({"shuffle": "yes"}, TypeError, "shuffle must be True or False"),
        ({"validation_split": 1.0}, ValueError, "validation_split must be less than 1"),
        ({"validation_split": -0.1}, ValueError, "validation_split must be at least 0"),
        ({"validation_split": 0.01}, ValueError, "leaves none for training or validation"),
        ({"validation_split": 0.99}, ValueError, "leaves none for training or validation"),
        ({"validation_split": True}, TypeError, "validation_split must be a number"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
        ({"n_threads": "2"}, TypeError, "n_threads must be an integer"),
        ({"verbose": 3}, ValueError, "unknown verbose 3; choose from 0, 1, 2, 'auto'"),
        ({"verbose": "loud"}, ValueError, "unknown verbose 'loud'"),
        ({"verbose": True}, TypeError, "verbose must be an integer"),
        ({"callbacks": ["stop"]}, TypeError, "callbacks must be fastgd.Callback objects"),
        ({"callbacks": [fastgd.EarlyStopping]}, TypeError, "callbacks must be fastgd.Callback"),
        ({"callbacks": [fastgd.EarlyStopping()]}, ValueError, "EarlyStopping monitors 'val_loss'"),
        ({"callbacks": 3}, TypeError, "callbacks must be fastgd.Callback objects, not 3"),
        ({"metrics": "f1"}, ValueError, "choose from accuracy, mse, mae, r2"),
        ({"metrics": 3}, TypeError, "metrics must be names or callables, not 3"),
        ({"resume": True}, ValueError, "there is no fit to resume"),
        ({"resume": 1}, TypeError, "resume must be True or False"),
        (
            {"validation_split": 0.5, "validation_data": (X, LABELS)},
            ValueError,
            "either validation_data or validation_split",
        ),
    ],
    ids=str,
)
def test_bad_arguments_of_fit_are_refused(arguments, error, message):
    net = network()
    before = state(net)
    with pytest.raises(error, match=message):
        net.fit(X, LABELS, **{"verbose": 0} | arguments)
    assert state(net) == before
    assert net.history is None


@pytest.mark.parametrize(
    ("interval", "error", "message"),
    [
        (0, ValueError, "interval of Own must be at least 1, not 0"),
        (-2, ValueError, "interval of Own must be at least 1, not -2"),
        (1.5, TypeError, r"interval of Own must be an integer, not 1\.5"),
    ],
)
def test_intervals_of_callbacks_are_checked(interval, error, message):
    Own = type("Own", (fastgd.Callback,), {"every_epoch": False, "interval": interval})
    net = network()
    before = state(net)
    with pytest.raises(error, match=message):
        net.fit(X, LABELS, callbacks=[Own()], verbose=0)
    assert state(net) == before


def test_none_means_no_callbacks_and_no_metrics():
    net = network()
    history = net.fit(X, LABELS, callbacks=None, metrics=None, verbose=0)
    assert sorted(history.history) == ["loss", "lr", "seconds"]
    assert net.evaluate(X, LABELS, metrics=None) == net.evaluate(X, LABELS)


def with_activation(make):
    return lambda value: {"layers": [Dense(5, make(value)), Dense(1)]}


def with_optimizer(make):
    return lambda value: {"optimizer": make(value)}


# What Network is made with for a value, and whether that may be large.
SETTINGS = {
    "LeakyReLU: alpha": (with_activation(activations.LeakyReLU), True),
    "ELU: alpha": (with_activation(activations.ELU), True),
    "Softplus: threshold": (with_activation(activations.Softplus), True),
    "HardSigmoid: slope": (with_activation(activations.HardSigmoid), True),
    "SGD: clip_value": (with_optimizer(lambda v: fastgd.SGD(clip_value=v)), True),
    "SGD: clip_norm": (with_optimizer(lambda v: fastgd.SGD(clip_norm=v)), True),
    "SGD: weight_decay": (with_optimizer(lambda v: fastgd.SGD(weight_decay=v)), True),
    "SGD: momentum": (with_optimizer(lambda v: fastgd.SGD(momentum=v)), False),
    "Adam: beta1": (with_optimizer(lambda v: fastgd.Adam(beta1=v)), False),
    "Adam: eps": (with_optimizer(lambda v: fastgd.Adam(eps=v)), True),
    "Adagrad: eps": (with_optimizer(lambda v: fastgd.Adagrad(eps=v)), True),
    "Huber: delta": (lambda v: {"loss": fastgd.Huber(v)}, True),
    "Poisson: eps": (
        lambda v: {"layers": [Dense(1, "relu")], "loss": fastgd.Poisson(v)},
        True,
    ),
    "LogLoss: clip": (lambda v: {"layers": [Dense(1)], "loss": fastgd.LogLoss(v)}, False),
    r"layers\[1\]: l1": (lambda v: {"layers": [Dense(5), Dense(1, l1=v)]}, True),
    r"layers\[0\]: l2": (lambda v: {"layers": [Dense(5, l2=v), Dense(1)]}, True),
}
# Factors of what is added to something else: a denormal serves as the zero that it counts as.
AS_GOOD_AS_ZERO = {
    *("SGD: weight_decay", "SGD: momentum", "Adam: beta1"),
    *(r"layers\[1\]: l1", r"layers\[0\]: l2"),
}


def made_with(case, value, dtype, **settings):
    return Network(
        **{"layers": [Dense(5, "tanh"), Dense(1)], "loss": "squared_error"}
        | SETTINGS[case][0](value)
        | {"dtype": dtype}
        | settings
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_a_dtype_does_not_hold_are_refused(case, dtype):
    """Denormals count as zero, which for some means that there is no such setting."""
    tiny = float(np.finfo(dtype).tiny)
    small, beyond = [0.999 * tiny, tiny / 2**20, 5e-324], []
    if case not in AS_GOOD_AS_ZERO:
        beyond += [(value, "small") for value in small]
    if dtype == "float32" and SETTINGS[case][1]:
        beyond += [(1e39, "large"), (1e300, "large")]
    for value, what in beyond:
        message = f"{case}={value!r} is too {what} for {dtype}, whose normal".replace("+", r"\+")
        for n_inputs in (4, None):
            with pytest.raises(ValueError, match=message):
                made_with(case, value, dtype, n_inputs=n_inputs)
    # The smallest that there is does what it should.
    for value in [tiny, *(small if case in AS_GOOD_AS_ZERO else [])]:
        made_with(case, value, dtype, seed=1).validate(X, VALUES[:, 0])


def test_an_optimizer_that_does_not_fit_the_dtype_is_not_taken():
    net = network()
    net.train_step(X, LABELS)
    before, optimizer = state(net), net.optimizer
    for new in (fastgd.SGD(0.1, 0.9, clip_value=1e-40), fastgd.Adam(eps=1e39)):
        with pytest.raises(
            ValueError, match=r"for float32, whose normal numbers go from 1\.18e-38"
        ):
            net.optimizer = new
    assert net.optimizer is optimizer
    assert state(net) == before


@pytest.mark.parametrize("module", [kernels, reference])
def test_kernels_refuse_settings_that_the_dtype_does_not_hold(module):
    a = np.ones((2, 2), np.float32)
    leaky, poisson = activations.LeakyReLU(1e-40), fastgd.Poisson(1e-40)
    for call in (
        lambda: module.forward(a, a, None, leaky),
        lambda: module.activation(leaky, a),
        lambda: module.activation_grad(leaky, a, a=a),
        lambda: module.backward(a, a, leaky, a=a),
        lambda: module.loss("squared_error", a, a, output=leaky),
        lambda: module.loss(poisson, a, a, output="relu"),
        lambda: module.sgd_update(a, None, a, a, lr=0.1, clip_value=1e-40),
        lambda: module.adam_update(a, None, a, a, {}, lr=0.1, eps=1e-40),
    ):
        with pytest.raises(ValueError, match="=1e-40 is too small for float32, whose normal"):
            call()
    assert (a == 1).all()
    module.sgd_update(a.copy(), None, a, a, lr=1e-40, scale=1e-40)


def test_weights_that_are_no_list_are_refused():
    net = network()
    before = state(net)
    with pytest.raises(TypeError, match="weights must be a list of arrays, not None"):
        net.set_weights(None)
    assert state(net) == before


def test_integers_of_numpy_are_integers():
    net = network()
    net.fit(X, LABELS, epochs=np.int8(2), batch_size=np.uint64(5), verbose=0)
    assert net.step == 6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss": "mse"}, ValueError, "unknown loss 'mse'; choose from squared_error"),
        ({"optimizer": "sdg"}, ValueError, "unknown optimizer 'sdg'; choose from sgd, adam"),
        ({"dtype": "float16"}, ValueError, "unknown dtype 'float16'; choose from float32, float64"),
        ({"dtype": "floaty"}, ValueError, "choose from float32, float64"),
        ({"dtype": None}, ValueError, "choose from float32, float64"),
        ({"dtype": ">f8"}, ValueError, "choose from float32, float64"),
        ({"n_inputs": 0}, ValueError, "n_inputs must be at least 1"),
        ({"n_inputs": 4.0}, TypeError, "n_inputs must be an integer"),
        ({"n_inputs": True}, TypeError, "n_inputs must be an integer"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": 2**64}, ValueError, "seed must be at most 18446744073709551615"),
        ({"seed": 1.5}, TypeError, "seed must be an integer"),
    ],
    ids=str,
)
def test_bad_arguments_of_network_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Network([Dense(3)], **{"loss": "cross_entropy"} | arguments)


def test_values_beyond_float32_are_refused():
    big = with_value(X, (3, 2), 1e39)
    net = network()
    before = state(net)
    with pytest.raises(ValueError, match=r"X\[3, 2\] is 1e\+39, beyond the range of float32"):
        net.fit(big, LABELS, verbose=0)
    assert state(net) == before
    network(dtype="float64").predict(big)
    regression = network("squared_error")
    with pytest.raises(ValueError, match=r"y\[0, 0\] is -1e\+39, beyond the range of float32"):
        regression.fit(X, with_value(VALUES, (0, 0), -1e39), verbose=0)


def test_values_beyond_float64_are_refused():
    if np.finfo(np.longdouble).max == np.finfo(np.float64).max:
        bad, message = np.full((12, 4), np.inf), "is inf"
    else:
        bad = np.full((12, 4), np.finfo(np.longdouble).max)
        message = "beyond the range of float64"
    with pytest.raises(ValueError, match=message):
        network(dtype="float64").predict(bad)


def test_bad_value_is_found_wherever_it_is():
    """Every place of an array that is looked at in several blocks."""
    data = np.zeros((3000, 300))
    rng = np.random.default_rng(0)
    for _ in range(5):
        row, column = int(rng.integers(3000)), int(rng.integers(300))
        data[row, column] = np.nan
        for layout in (data, np.asfortranarray(data), data.astype(np.float32)):
            with pytest.raises(ValueError, match=rf"X\[{row}, {column}\] is nan"):
                network(n_inputs=300).predict(layout)
        data[row, column] = 0


def test_short_way_of_train_step_notices_what_changed():
    """After good batches, a bad one of the same type must still be found, and a good one train."""
    net = network()
    good = X.astype(np.float32)
    for _ in range(2):
        net.train_step(good, LABELS)
    assert net._short is not None
    before = state(net)
    for bad_x, bad_y in [
        (with_value(X, (1, 1), np.nan).astype(np.float32), LABELS),
        (good, LABELS + 1),
        (good, LABELS - 1),
        (good[:5], LABELS),
        (good[:, :3], LABELS),
        (good[:0], LABELS[:0]),
        (good[0], LABELS),
        (good, np.eye(3)[LABELS][:5]),
    ]:
        with pytest.raises(ValueError, match=r"X|y"):
            net.train_step(bad_x, bad_y)
    assert state(net) == before
    strided = np.repeat(LABELS, 2)[::2]
    net.train_step(good, strided)
    assert net.step == 3


@pytest.mark.parametrize("value", [10**400, -(10**400)], ids=["positive", "negative"])
def test_integers_beyond_every_float_are_refused_by_name(value):
    with pytest.raises(ValueError, match=r"lr must be finite, not -?inf"):
        fastgd.SGD(lr=value)


def test_huge_networks_are_refused_by_memory_not_by_a_crash():
    with pytest.raises((MemoryError, ValueError, OverflowError)):
        Network([Dense(2**40)], "squared_error", n_inputs=2**20)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("row", [0, 700, 1999])
def test_a_bad_value_is_named_wherever_a_long_prediction_meets_it(row, n_threads, dtype):
    net = fastgd.Network([fastgd.Dense(300)], "squared_error", n_inputs=100)
    long = np.ones((2000, 100), dtype)
    long[row, 3] = np.nan
    with pytest.raises(ValueError, match=rf"X\[{row}, 3\] is nan"):
        net.predict(long, n_threads=n_threads)
