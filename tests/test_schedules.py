"""Learning-rate schedules: formulas, arrays of steps, state, and what a network makes of them."""

import math
from fractions import Fraction

import numpy as np
import pytest

import fastgd
from fastgd import schedules
from fastgd.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    ReduceOnPlateau,
    Step,
    WarmUp,
)

SCHEDULES = {
    "constant": Constant(0.3),
    "step": Step(1.0, every=7, factor=0.5),
    "exponential": Exponential(1.0, factor=0.9, every=3),
    "cosine": Cosine(1.0, steps=20, final=0.1),
    "inverse_scaling": InverseScaling(1.0, power=0.7),
    "one_cycle": OneCycle(1.0, steps=40),
    "warm_up": WarmUp(Cosine(1.0, steps=20), steps=5),
    "warm_up of a number": WarmUp(0.5, steps=5),
    "reduce_on_plateau": ReduceOnPlateau(0.3),
}
FORMULAS = {
    "constant": lambda s: 0.3,
    "step": lambda s: 0.5 ** (s // 7),
    "exponential": lambda s: 0.9 ** (s / 3),
    "cosine": lambda s: 0.1 + 0.9 * (1 + math.cos(math.pi * min(s, 20) / 20)) / 2,
    "inverse_scaling": lambda s: (s + 1) ** -0.7,
    "warm_up": lambda s: (
        (s + 1) / 6 if s < 5 else (1 + math.cos(math.pi * min(s - 5, 20) / 20)) / 2
    ),
    "warm_up of a number": lambda s: 0.5 * min((s + 1) / 6, 1),
    "reduce_on_plateau": lambda s: 0.3,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_schedule_formula(name):
    got = [SCHEDULES[name](step) for step in range(50)]
    np.testing.assert_allclose(got, [FORMULAS[name](step) for step in range(50)], rtol=1e-14)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_of_an_array_equals_that_of_each_step(name):
    schedule = SCHEDULES[name]
    steps = np.arange(60)
    values = schedule(steps)
    assert values.dtype == np.float64
    assert values.tolist() == [schedule(int(step)) for step in steps]
    assert type(schedule(3)) is float


def test_one_cycle_has_its_corners():
    schedule = OneCycle(2.0, steps=100, pct_start=0.3, div_factor=10, final_div_factor=100)
    rates = schedule(np.arange(120))
    np.testing.assert_allclose(rates[[0, 29, 99, 119]], [0.2, 2.0, 0.002, 0.002], rtol=1e-12)
    assert np.argmax(rates) == 29
    assert (np.diff(rates[:30]) > 0).all()
    assert (np.diff(rates[29:100]) < 0).all()
    # halfway along each half cosine
    np.testing.assert_allclose(schedule(14.5), (0.2 + 2.0) / 2)
    np.testing.assert_allclose(schedule(64), (2.0 + 0.002) / 2)


def test_one_cycle_without_a_rise_begins_at_the_top():
    assert OneCycle(2.0, steps=10, pct_start=0.0)(0) == 2.0


def test_reduce_on_plateau_waits_and_cools_down():
    schedule = ReduceOnPlateau(
        1.0, factor=0.5, patience=2, min_delta=0.1, cooldown=2, min_lr=0.2, monitor="loss"
    )
    rates = []
    for loss in (1.0, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95):
        schedule.epoch_end({"loss": loss})
        rates.append(schedule(0))
    # epoch 0 sets the best; 1, 2 are bad; 3, 4 cool down; 5, 6 are bad; ...
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2, 0.2]


def test_reduce_on_plateau_counts_nan_as_bad_and_improvement_as_good():
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=2, monitor="loss")
    for loss in (math.nan, 1.0, math.nan, 0.5, math.nan):
        schedule.epoch_end({"loss": loss})
    assert schedule(0) == 1.0
    schedule.epoch_end({"loss": math.nan})
    assert schedule(0) == 0.5


def test_reduce_on_plateau_prefers_validation_and_knows_the_direction():
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1)
    schedule.epoch_end({"loss": 1.0, "val_loss": 1.0})
    schedule.epoch_end({"loss": 2.0, "val_loss": 0.5})
    assert schedule(0) == 1.0
    rising = ReduceOnPlateau(1.0, factor=0.5, patience=1, monitor="val_accuracy")
    rising.epoch_end({"val_accuracy": 0.5})
    rising.epoch_end({"val_accuracy": 0.6})
    assert rising(0) == 1.0
    rising.epoch_end({"val_accuracy": 0.6})
    assert rising(0) == 0.5


def test_reduce_on_plateau_goes_on_from_its_state():
    def fresh():
        return WarmUp(ReduceOnPlateau(1.0, patience=3, monitor="loss"), steps=2)

    one, two = fresh(), fresh()
    for _ in range(3):
        one.epoch_end({"loss": 1.0})
    two.load_state_dict(one.state_dict())
    for schedule in (one, two):
        schedule.epoch_end({"loss": 1.0})
    assert one(5) == two(5) == pytest.approx(0.1)


def test_schedule_without_state_refuses_one():
    with pytest.raises(ValueError, match="no state"):
        Constant(0.1).load_state_dict({"lr": 1.0})
    with pytest.raises(ValueError, match="cannot go on"):
        ReduceOnPlateau(0.1).load_state_dict({"lr": 1.0})


def test_schedule_repr_and_equality():
    assert repr(Step(1.0, 5)) == "Step(lr=1.0, every=5, factor=0.1)"
    assert Step(1.0, 5) == Step(1, 5, 0.1)
    assert Step(1.0, 5) != Step(1.0, 6)
    assert Step(1.0, 5) != Constant(1.0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Constant(0), ValueError, "lr must be greater than 0, not 0"),
        (lambda: Constant(-1.0), ValueError, "lr must be greater than 0"),
        (lambda: Constant(math.nan), ValueError, "lr must be finite"),
        (lambda: Constant(math.inf), ValueError, "lr must be finite"),
        (lambda: Constant(True), TypeError, "lr must be a number, not True"),
        (lambda: Constant("0.1"), TypeError, "lr must be a number"),
        (lambda: Step(0.1, 0), ValueError, "every must be at least 1"),
        (lambda: Step(0.1, 2.5), TypeError, "every must be an integer"),
        (lambda: Step(0.1, 2**63), ValueError, f"every must be at most {2**63 - 1}, not {2**63}"),
        (lambda: Exponential(0.1, 0.5, 10**400), ValueError, f"every must be at most {2**63 - 1}"),
        (lambda: Cosine(0.1, 10**400), ValueError, f"steps must be at most {2**63 - 1}"),
        (lambda: OneCycle(0.1, 10**400), ValueError, f"steps must be at most {2**63 - 1}"),
        (lambda: WarmUp(0.1, 10**400), ValueError, f"steps must be at most {2**63 - 1}"),
        (lambda: Step(0.1, 2, factor=0), ValueError, "factor must be greater than 0"),
        (lambda: Cosine(0.1, 0), ValueError, "steps must be at least 1"),
        (lambda: Cosine(0.1, 5, final=-1), ValueError, "final must be at least 0"),
        (lambda: InverseScaling(0.1, power=-1), ValueError, "power must be at least 0"),
        (lambda: OneCycle(0.1, 1), ValueError, "steps must be at least 2"),
        (lambda: OneCycle(0.1, 5, pct_start=1), ValueError, "pct_start must be less than 1"),
        (lambda: OneCycle(0.1, 5, div_factor=0.5), ValueError, "div_factor must be at least 1"),
        (lambda: WarmUp(-0.1, 5), ValueError, "lr must be greater than 0"),
        (lambda: WarmUp(Cosine, 5), TypeError, "not the class Cosine"),
        (lambda: ReduceOnPlateau(0.1, factor=1), ValueError, "factor must be less than 1"),
        (lambda: ReduceOnPlateau(0.1, mode="up"), ValueError, "choose from auto, min, max"),
        (lambda: ReduceOnPlateau(0.1, monitor=3), TypeError, "monitor must be a string"),
    ],
)
def test_schedule_refuses_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


MOST = 2**63 - 1


@pytest.mark.parametrize(
    "schedule",
    [Step(0.1, MOST), Exponential(0.1, 0.5, MOST), Cosine(0.1, MOST), OneCycle(0.1, MOST),
     WarmUp(0.1, MOST)],
)  # fmt: skip
def test_schedules_go_on_for_as_many_steps_as_can_be_counted(schedule):
    rates = schedule(np.array([0, 1, 2**62]))
    assert np.isfinite(rates).all()
    assert (rates > 0).all()
    net = network(schedule)
    net.fit(*data(), verbose=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1])
def test_learning_rates_refuses_bad_values_of_a_callable(bad):
    def lr(step):
        return bad if step == 7 else 0.1

    with pytest.raises(ValueError, match="at step 7"):
        fastgd.SGD(lr=lr).learning_rates(5, 4)
    assert fastgd.SGD(lr=lr).learning_rates(8, 2).tolist() == [0.1, 0.1]


def test_a_rate_beyond_every_float_is_refused():
    with pytest.raises(ValueError, match="must be finite and not negative, but is inf at step 3"):
        fastgd.SGD(lambda step: 10**400 if step == 3 else 0.1).learning_rates(0, 5)


@pytest.mark.parametrize("make", [lambda: Exponential(1.0, 0.5), lambda: Step(1.0, 1, 0.5)])
def test_rates_that_become_zero_do_so_whatever_the_caller_says_of_underflow(make):
    with np.errstate(all="raise"):
        assert make()(np.array([1, 2000])).tolist() == [0.5, 0.0]
        assert fastgd.SGD(make()).learning_rates(2000, 2).tolist() == [0.0, 0.0]
        with pytest.raises(ValueError, match="finite and not negative, but is inf at step 2"):
            fastgd.SGD(Exponential(1.0, 1e300)).learning_rates(0, 5)


NO_RATES = {
    "text": ("0.1", TypeError, "must be real numbers, not '0.1'"),
    "bytes": (b"0.1", TypeError, "must be real numbers, not b'0.1'"),
    "NumPy's text": (np.str_("0.1"), TypeError, "must be real numbers, not "),
    "a boolean": (True, TypeError, "must be a number, not True"),
    "none": (None, TypeError, "must be real numbers, not None"),
    "an array": (np.array([0.1, 0.2]), ValueError, r"must be one number, not an array of shape"),
    "complex": (0.1 + 0.1j, TypeError, r"must be real numbers, not \(0.1\+0.1j\)"),
    "a complex array": (np.array(0.1j), TypeError, "must be real numbers, not "),
}


@pytest.mark.parametrize("case", NO_RATES)
def test_a_callable_that_returns_no_number_is_refused_before_a_step(case):
    value, error, message = NO_RATES[case]
    X, y = data()
    for lr in (lambda step: value, WarmUp(lambda step: value, 2)):
        net = network(lr)
        before = net.get_weights()
        for call in (net.fit, net.train_step):
            with pytest.raises(error, match=f"lr at step 0 {message}"):
                call(X, y, **({"verbose": 0} if call == net.fit else {}))
        for a, b in zip(before, net.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


class OfAnotherLibrary:
    """As scalars of JAX and PyTorch are."""

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype)


@pytest.mark.parametrize(
    "kind",
    [
        *(float, np.float32, np.float64, np.array, Fraction, np.int64, OfAnotherLibrary),
        lambda value: np.array([value]),
    ],
)
def test_a_callable_may_return_any_real_number(kind):
    assert fastgd.SGD(lr=lambda step: kind(1)).learning_rates(0, 2).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (lambda steps: 0.1j * steps, TypeError, "must be real numbers, not an array of complex128"),
        (lambda steps: steps.astype(str), TypeError, "must be real numbers, not an array of <U"),
        (lambda steps: None, TypeError, "must be real numbers, not None"),
        (lambda steps: 0.1, ValueError, r"returned shape \(\) for \(1,\) steps"),
        (lambda steps: [[1.0], [1.0, 2.0]], ValueError, "cannot be read as an array"),
        (lambda steps: steps - 1, ValueError, "is -1.0 at step 0"),
    ],
)
def test_a_schedule_of_ones_own_that_returns_no_rates_is_refused(values, error, message):
    class Own(schedules.Schedule):
        name = "own"

        def _at(self, steps):
            return values(steps)

    with pytest.raises(error, match=message):
        network(Own()).train_step(*data())


def test_callable_gets_python_ints():
    seen = []

    def lr(step):
        seen.append(step)
        return 0.1

    fastgd.SGD(lr=lr).learning_rates(3, 2)
    assert seen == [3, 4]
    assert all(type(step) is int for step in seen)


def data(n=40):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    return X, (X @ [[1.0], [-2.0], [0.5]]).astype(np.float32)


def network(lr, **settings):
    return fastgd.Network(
        [fastgd.Dense(4, "tanh"), fastgd.Dense(1)],
        "squared_error",
        fastgd.SGD(lr=lr, **settings),
        n_inputs=3,
    )


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "reduce_on_plateau"])
def test_network_follows_a_schedule_step_by_step(name):
    """A fit, and train_step with the rate of each step set by hand, end with the same bits."""
    X, y = data()
    schedule = SCHEDULES[name]
    one, two = network(schedule), network(0.1)
    history = one.fit(X, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
    for step in range(15):
        two.optimizer.lr = schedule(step)
        two.train_step(X[step % 5 * 8 :][:8], y[step % 5 * 8 :][:8])
    assert history.history["lr"] == [schedule(4), schedule(9), schedule(14)]
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_network_counts_steps_over_fits_and_train_steps():
    X, y = data(16)
    net = network(lambda step: 0.1 / (step + 1))
    net.fit(X, y, epochs=2, batch_size=8, verbose=0)
    net.train_step(X, y)
    net.train_step(X, y)
    history = net.fit(X, y, epochs=1, batch_size=8, verbose=0)
    assert history.history["lr"] == [0.1 / 8]


def test_network_reduces_lr_on_plateau():
    X, y = data()
    schedule = ReduceOnPlateau(1e-6, factor=0.5, patience=2, min_delta=10.0)
    net = network(schedule)
    history = net.fit(X, y, epochs=6, validation_data=(X, y), verbose=0)
    assert history.history["lr"] == [1e-6, 1e-6, 1e-6, 5e-7, 5e-7, 2.5e-7]
    # the network has a copy of its own
    assert schedule(0) == 1e-6


def test_schedule_that_is_assigned_is_copied():
    X, y = data()
    schedule = ReduceOnPlateau(1e-6, factor=0.5, patience=1, min_delta=10.0)
    nets = [network(0.1), network(0.1)]
    for net in nets:
        net.optimizer.lr = schedule
    nets[0].fit(X, y, epochs=3, verbose=0)
    rates = [net.optimizer.learning_rates(0, 1)[0] for net in nets]
    assert [*rates, schedule(0)] == [2.5e-7, 1e-6, 1e-6]
    # An optimizer that is made from one has its own as well.
    assert fastgd.SGD(schedule).lr == schedule
    assert fastgd.SGD(schedule).lr is not schedule


def test_warm_up_around_plateau_is_watched_by_a_fit():
    X, y = data()
    net = network(WarmUp(ReduceOnPlateau(1e-6, patience=1, min_delta=10.0), steps=1))
    history = net.fit(X, y, epochs=3, batch_size=40, verbose=0)
    np.testing.assert_allclose(history.history["lr"], [5e-7, 1e-6, 1e-7])


def test_fit_refuses_a_plateau_on_what_is_not_recorded():
    X, y = data()
    net = network(ReduceOnPlateau(0.1, monitor="val_loss"))
    before = net.get_weights()
    with pytest.raises(ValueError, match=r"monitors 'val_loss'.*choose from loss, lr, seconds"):
        net.fit(X, y, verbose=0)
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_subclass_serves_as_a_schedule():
    class Halves(schedules.Schedule):
        name = "halves"

        def _at(self, steps):
            return 0.5**steps

    X, y = data()
    assert network(Halves()).fit(X, y, batch_size=20, verbose=0).history["lr"] == [0.5]
