"""partial_fit on plain arrays goes straight to the engine: with the outcome of the long way.

The long way is taken by lists. What a plain step does not look at, a changed parameter above all,
must lead there.
"""

import pickle

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import fastgd
from fastgd.sklearn import _stochastic
from sklearn_cases import ORIGINAL, OURS, attempt, error, make_data, make_weights
from sklearn_features import HAS_SAMPLE_WEIGHT

# Another value of every parameter, most of which partial_fit reads anew, and bad ones.
CHANGES = [
    {"activation": "tanh"},
    {"activation": ["gelu"]},
    {"activation": ["gelu", "tanh"]},
    {"alpha": 0.5},
    {"batch_size": 16},
    {"batch_size": 32},
    {"batch_size": 64},
    {"beta_1": 0.5},
    {"beta_1": 3},
    {"beta_2": 0.5},
    {"callbacks": [3]},
    {"class_weight": {2: 10.0}},
    {"class_weight": "balanced"},
    {"clip_norm": 1e-3},
    {"clip_value": 1e-3},
    {"dropout": 0.5},
    {"dropout": "x"},
    {"dtype": "float32"},
    {"early_stopping": True},
    {"epsilon": 0.1},
    {"hidden_layer_sizes": (-3,)},
    {"hidden_layer_sizes": [[3]]},
    {"learning_rate": "adaptive"},
    {"learning_rate_init": 0.5},
    {"learning_rate_init": -1},
    {"loss": "huber"},
    {"lr_schedule": lambda step: 0.5},
    {"max_fun": 3},
    {"max_iter": 0},
    {"max_iter": 1},
    {"momentum": 0.1},
    {"n_iter_no_change": 1, "tol": 10.0},
    {"n_threads": 2},
    {"nesterovs_momentum": False},
    {"power_t": 0.1},
    {"progress_bar": True},
    {"random_state": 5},
    {"random_state": np.random.RandomState(5)},
    {"scoring": "loss"},
    {"shuffle": False},
    {"solver": "sgd"},
    {"solver": "lbfgs"},
    {"solver": "foo"},
    {"solver": fastgd.SGD(0.1)},
    {"tol": -1.0},
    {"validation_fraction": 0.5},
    {"verbose": True},
    {"warm_start": True},
    {"weight_decay": 0.5},
]
KINDS = {"classifier": "multiclass", "regressor": "regression"}
X, Y = {}, {}
for _type, _kind in KINDS.items():
    X[_type], Y[_type] = make_data(_kind, n=32)


def trained(cls, kind, **settings):
    """Return an estimator after two steps, of which ours has done the second plainly."""
    model = cls(hidden_layer_sizes=(7,), random_state=0, **settings)
    first = {"classes": np.unique(Y[kind])} if kind == "classifier" else {}
    return model.partial_fit(X[kind], Y[kind], **first).partial_fit(X[kind], Y[kind])


def went_on(model, kind, data, changes):
    """Return all that three more steps with other parameters do."""
    # By name, since a generator must not be shared.
    changes = {
        name: np.random.RandomState(5) if isinstance(value, np.random.RandomState) else value
        for name, value in changes.items()
    }
    model.set_params(**changes)
    outcomes = [attempt(lambda: model.partial_fit(data, Y[kind])) for _ in range(3)]
    return outcomes, model.loss_curve_, [*model.coefs_, *model.intercepts_], model.t_


def known_to(classes):
    """Yield each kind with the changes of parameters that its class has."""
    for kind in KINDS:
        known = classes[kind]().get_params().keys()
        yield from ((kind, changes) for changes in [{}, *CHANGES] if changes.keys() <= known)


@pytest.mark.parametrize(("kind", "changes"), list(known_to(OURS)), ids=str)
def test_plain_steps_do_what_the_long_way_does(changes, kind, capsys):
    found = []
    for data in (X[kind], X[kind].tolist()):
        outcome = went_on(trained(OURS[kind], kind), kind, data, changes)
        found.append((*outcome, capsys.readouterr().out))
    (plain, curve, weights, t, out), (long, long_curve, long_weights, long_t, long_out) = found
    assert (plain, t, out) == (long, long_t, long_out)
    assert error(long_curve, curve) <= 1e-15
    for a, b in zip(weights, long_weights, strict=True):
        assert error(b, a) <= 1e-15


def is_shared(kind, changes):
    """Tell whether scikit-learn, which validates nothing there, has no accident of its own."""
    if kind == "regressor" and changes.get("solver") in ("foo", "lbfgs"):
        # It trains nothing, or to an end that no two programs share.
        return False
    is_own = any(isinstance(value, (fastgd.SGD, list)) for value in changes.values())
    return not is_own and "loss" not in changes


SHARED = [given for given in known_to(ORIGINAL) if is_shared(*given)]


@pytest.mark.parametrize(("kind", "changes"), SHARED, ids=str)
def test_plain_steps_do_what_scikit_learn_does(changes, kind, capsys):
    model = trained(ORIGINAL[kind], kind)
    wanted = (*went_on(model, kind, X[kind], changes), capsys.readouterr().out)
    found = (*went_on(trained(OURS[kind], kind), kind, X[kind], changes), capsys.readouterr().out)
    assert found[0] == wanted[0]
    assert found[3:] == wanted[3:]
    assert error(wanted[1], found[1]) <= 1e-9
    for a, b in zip(wanted[2], found[2], strict=True):
        assert error(a, b) <= 1e-9


def test_every_parameter_is_changed():
    changed = {name for changes in CHANGES for name in changes}
    for cls in OURS.values():
        assert cls().get_params().keys() <= changed


@pytest.mark.parametrize("kind", KINDS)
def test_plain_steps_are_taken(kind, monkeypatch):
    """Else what is compared above would be the long way twice."""
    taken = []
    plainly = _stochastic.partial_fit_plainly

    def counted(*args):
        taken.append(plainly(*args))
        return taken[-1]

    monkeypatch.setattr(_stochastic, "partial_fit_plainly", counted)
    model = trained(OURS[kind], kind)
    assert taken == [True]
    model.set_params(alpha=0.5)
    for _ in range(3):
        model.partial_fit(X[kind], Y[kind])
    assert taken == [True, False, True, True]
    # A fit does more, and what pickles keep depends on who came last.
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.set_params(max_iter=2).fit(X[kind], Y[kind])
    del taken[:]
    model.partial_fit(X[kind], Y[kind]).partial_fit(X[kind], Y[kind])
    assert taken == [True]


@pytest.mark.parametrize(
    "settings", [{"batch_size": 64}, {"batch_size": 16}, {"verbose": True}, {"solver": "sgd"}]
)
def test_steps_that_say_or_do_more_do_so_each_time(settings, capsys):
    found = []
    for classes in (ORIGINAL, OURS):
        model = classes["regressor"](hidden_layer_sizes=(7,), random_state=0, **settings)
        outcomes = [attempt(model.partial_fit, X["regressor"], Y["regressor"]) for _ in range(3)]
        found.append((outcomes, capsys.readouterr().out.count("\n")))
    assert found[0] == found[1]


if HAS_SAMPLE_WEIGHT:

    def test_weights_of_samples_are_for_their_call_only():
        model = OURS["regressor"](random_state=0)
        twin = OURS["regressor"](random_state=0)
        data, y = X["regressor"], Y["regressor"]
        weight = make_weights(len(data))
        for i in range(6):
            given = {"sample_weight": weight} if i in (0, 3) else {}
            model.partial_fit(data, y, **given)
            twin.partial_fit(data.tolist(), y, **given)
        assert error(twin.loss_curve_, model.loss_curve_) <= 1e-15


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_pickles_after_a_fit_between_plain_steps_go_on(solver):
    data, y = X["regressor"], Y["regressor"]
    model = trained(OURS["regressor"], "regressor", warm_start=True, max_iter=2)
    with pytest.warns(ConvergenceWarning):
        model.set_params(solver=solver).fit(data, y)
    model.set_params(solver="adam")
    for _ in range(2):
        model.partial_fit(data, y)
    twin = pickle.loads(pickle.dumps(model))
    assert error(model.partial_fit(data, y).coefs_[0], twin.partial_fit(data, y).coefs_[0]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_checks_of_a_subclass_are_asked(kind):
    data, y = X[kind], Y[kind]
    seen = []
    for classes in (ORIGINAL, OURS):

        class Own(classes[kind]):
            def _validate_input(self, X, y, *args, **kwargs):
                seen[-1] += 1
                return super()._validate_input(X, y, *args, **kwargs)

        seen.append(0)
        model = trained(Own, kind)
        with pytest.warns(ConvergenceWarning):
            model.set_params(max_iter=1).fit(data, y)
        model.partial_fit(data, y)
    assert seen[1] == seen[0]


def test_plain_step_that_diverges_is_counted():
    """As an epoch with a loss of NaN, which the long way has noted too."""
    data, y = X["regressor"], Y["regressor"]
    models = [OURS["regressor"](random_state=0, solver="sgd", momentum=0.0) for _ in range(2)]
    for model, form in zip(models, (np.asarray, np.ndarray.tolist), strict=True):
        for _ in range(2):
            model.partial_fit(form(data), y)
        with pytest.raises(ValueError, match="non-finite"):
            model.partial_fit(form(data * 1e200), y)
        model.partial_fit(form(data), y)
    plain, long = models
    assert (plain.n_iter_, plain.t_) == (long.n_iter_, long.t_) == (1, 4 * 32)
    assert np.isnan(plain.loss_curve_[2])
    np.testing.assert_array_equal(plain.loss_curve_, long.loss_curve_)


def test_classes_have_the_byte_order_of_the_machine():
    y = Y["classifier"].astype(">i8")
    for build in (ORIGINAL["classifier"], OURS["classifier"]):
        with pytest.warns(UserWarning, match="Maximum iterations"):
            model = build(random_state=0, max_iter=2).fit(X["classifier"], y)
        assert model.classes_.dtype == model.predict(X["classifier"]).dtype == np.dtype("=i8")


@pytest.mark.parametrize("classes", [[2**63, 2**63 + 1], [0, 2**64 - 1], [0, 2**53, 2**63]])
def test_labels_beyond_int64(classes):
    y = np.array(classes, dtype=np.uint64)[np.arange(32) % len(classes)]
    models = [mlp["classifier"](max_iter=2, random_state=0) for mlp in (ORIGINAL, OURS)]
    for model in models:
        for _ in range(3):
            model.partial_fit(X["classifier"], y, classes=np.array(classes, dtype=np.uint64))
            model.partial_fit(X["classifier"], y)
    for wanted, found in zip(*(model.coefs_ for model in models), strict=True):
        assert error(wanted, found) <= 1e-9
    np.testing.assert_array_equal(*(model.predict(X["classifier"]) for model in models))


def test_labels_of_uint64_with_older_numpy(monkeypatch):
    """Before 2.2.4 NumPy casts what it counts as safely as that."""
    count = np.bincount

    def as_before(x, *args, **kwargs):
        return count(x.astype(np.intp, casting="safe"), *args, **kwargs)

    monkeypatch.setattr(np, "bincount", as_before)
    y = Y["classifier"] - Y["classifier"].min()
    curves = []
    for dtype in ("int64", "uint64"):
        model = OURS["classifier"](max_iter=2, random_state=0)
        with pytest.warns(ConvergenceWarning):
            model.fit(X["classifier"], y.astype(dtype))
        assert model.classes_.dtype == dtype
        curves.append(model.loss_curve_)
    assert curves[1] == curves[0]


def test_label_beyond_int64_is_no_negative_one():
    """-1 and 2**64 - 1 have the same bits."""
    y = np.arange(32) % 2 - 1
    outcomes = []
    for mlp in (ORIGINAL, OURS):
        model = mlp["classifier"](random_state=0)
        model.partial_fit(X["classifier"], y, classes=[-1, 0]).partial_fit(X["classifier"], y)
        outcomes.append(attempt(model.partial_fit, X["classifier"], y.astype(np.uint64)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] is not None
