"""fastgd.sklearn beside scikit-learn on every combination: the same numbers within a bound.

The grid is the whole matrix; the plain suite has a sample in which every two values of different
axes meet.
"""

import itertools

import pytest

from sklearn_cases import (
    ACTIVATIONS,
    AXES,
    BATCH_SIZES,
    BOUND,
    DTYPES,
    EPOCHS,
    HIDDEN,
    KINDS,
    MODES,
    ORIGINAL,
    OURS,
    SOLVERS,
    Cell,
    differences,
    make_data,
    pairwise,
    run,
    sparsify,
)

SAMPLE = [Cell(*row) for row in pairwise(AXES.values())]


def whole_matrix():
    """Return every combination; sizes of layers and batches take turns over them.

    A linear model has no hidden activation, but the activation decides how it is initialised.
    """
    hidden = itertools.cycle(itertools.product(HIDDEN, BATCH_SIZES))
    linear = itertools.cycle(itertools.product(ACTIVATIONS, BATCH_SIZES))
    for kind, mode, dtype, solver in itertools.product(KINDS, MODES, DTYPES, SOLVERS):
        for activation in ACTIVATIONS:
            yield Cell(solver, activation, kind, mode, dtype, *next(hidden))
        activation, batch_size = next(linear)
        yield Cell(solver, activation, kind, mode, dtype, (), batch_size)


def assert_same_numbers(cell):
    """Train both on a cell and compare all that can be seen of them."""
    original, wanted_warnings = run(ORIGINAL, cell)
    ours, given_warnings = run(OURS, cell)
    assert given_warnings == wanted_warnings
    X, _ = make_data(cell.kind, cell.dtype, n=40)
    if cell.mode in ("csr", "csc"):
        X = sparsify(X, cell.mode)
    assert not differences(original, ours, X, BOUND[cell.dtype])


@pytest.mark.parametrize("cell", SAMPLE, ids=str)
def test_same_numbers(cell):
    assert_same_numbers(cell)


@pytest.mark.grid
@pytest.mark.parametrize("cell", list(whole_matrix()), ids=str)
def test_same_numbers_in_every_cell(cell):
    assert_same_numbers(cell)


def test_sample_has_every_pair_of_values():
    for (i, first), (j, second) in itertools.combinations(enumerate(AXES.values()), 2):
        met = {(cell[i], cell[j]) for cell in SAMPLE}
        assert met == set(itertools.product(first, second))


def test_matrix_has_each_cell_once():
    cells = list(whole_matrix())
    assert len(set(cells)) == len(cells)
    linear = sum(not cell.hidden for cell in cells)
    n_models = len(SOLVERS) * len(KINDS) * len(MODES) * len(DTYPES)
    assert (len(cells) - linear, linear) == (n_models * len(ACTIVATIONS), n_models)
    for axis, values in enumerate(AXES.values()):
        assert {cell[axis] for cell in cells} == set(values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", ["constant-nesterov", "adaptive-momentum", "adam"])
def test_matrix_trains_for_all_epochs(solver, kind):
    """What the matrix compares moves: the loss falls, an adaptive rate is reduced on the way."""
    cell = Cell(solver=solver, kind=kind)
    model, _ = run(ORIGINAL, cell)
    assert len(model.loss_curve_) == EPOCHS[cell.dtype]
    assert model.loss_curve_[-1] < 0.95 * model.loss_curve_[0]
    if solver.startswith("adaptive"):
        assert model._optimizer.learning_rate <= model.learning_rate_init / 5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_small_change_is_a_difference(kind, dtype):
    """Another alpha is seen in every number of the weights and the loss."""
    cell = Cell(kind=kind, dtype=dtype)
    original, _ = run(ORIGINAL, cell)
    X, y = make_data(kind, dtype)
    changed = type(original)(**original.get_params() | {"alpha": 0.1})
    with pytest.warns(UserWarning, match="Maximum iterations"):
        changed.fit(X, y)
    found = differences(original, changed, X, BOUND[dtype])
    assert {"loss_", "loss_curve_", "coefs_[0]", "coefs_[1]", "intercepts_[0]"} <= set(found)
