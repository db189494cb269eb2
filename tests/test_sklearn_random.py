"""Random parameters, data and calls: fastgd.sklearn and scikit-learn agree on each."""

from operator import methodcaller

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_cases import (
    ACTIVATIONS,
    BOUND,
    KINDS,
    ORIGINAL,
    OURS,
    attempt_both,
    differences,
    estimator_type,
    first_classes,
    make_data,
    make_weights,
    sparsify,
)
from sklearn_features import HAS_SAMPLE_WEIGHT

# Both sides of every default; steps so small that rounding is not amplified beyond the bound.
PARAMETERS = st.fixed_dictionaries(
    {
        "hidden_layer_sizes": st.lists(st.integers(1, 9), max_size=3).map(tuple)
        | st.integers(1, 9),
        "activation": st.sampled_from(ACTIVATIONS),
        "random_state": st.integers(0, 2**32 - 1),
    },
    optional={
        "solver": st.sampled_from(["sgd", "adam"]),
        "alpha": st.floats(0.0, 1.0),
        "batch_size": st.integers(1, 130) | st.just("auto"),
        "learning_rate": st.sampled_from(["constant", "invscaling", "adaptive"]),
        "learning_rate_init": st.floats(1e-5, 0.03),
        "power_t": st.floats(0.0, 1.0),
        "max_iter": st.integers(1, 12),
        "shuffle": st.booleans(),
        "tol": st.floats(0.0, 0.1),
        "warm_start": st.booleans(),
        "momentum": st.floats(0.0, 0.95),
        "nesterovs_momentum": st.booleans(),
        "early_stopping": st.booleans(),
        "validation_fraction": st.floats(0.05, 0.6),
        "beta_1": st.floats(0.5, 0.95),
        "beta_2": st.floats(0.9, 0.9999),
        "epsilon": st.floats(1e-9, 1e-2),
        "n_iter_no_change": st.integers(1, 5) | st.just(np.inf),
    },
)
CALLS = st.lists(st.sampled_from(["fit", "partial_fit"]), min_size=1, max_size=3)


@settings(max_examples=80, derandomize=True, deadline=None)
@given(
    parameters=PARAMETERS,
    calls=CALLS,
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(["float64", "float64", "float32"]),
    layout=st.sampled_from(["dense", "dense", "csr", "csc"]),
    weighted=st.booleans() if HAS_SAMPLE_WEIGHT else st.just(False),
    n=st.integers(30, 120),
    n_features=st.integers(1, 9),
)
def test_random_cases_agree(parameters, calls, kind, dtype, layout, weighted, n, n_features):
    X, y = make_data(kind, dtype, n, n_features)
    X = X if layout == "dense" else sparsify(X, layout)
    parameters = {"max_iter": 5, **parameters} | ({"loss": "poisson"} if kind == "poisson" else {})
    models = [classes[estimator_type(kind)](**parameters) for classes in (ORIGINAL, OURS)]
    for call in calls:
        arguments = {"sample_weight": make_weights(n)} if weighted else {}
        if call == "partial_fit":
            arguments |= first_classes(kind, y)
        wanted, given = attempt_both(methodcaller(call, X, y, **arguments), *models)
        assert given == wanted
        if hasattr(models[0], "coefs_"):
            assert not differences(*models, X, BOUND[dtype])
