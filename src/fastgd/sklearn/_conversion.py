"""Between a fitted estimator and a fastgd.Network with the same weights, both ways.

Estimators of scikit-learn itself are taken as well: they lack the parameters that fastgd adds, and
the defaults of those change nothing.
"""

from __future__ import annotations

from numbers import Integral
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .. import activations
from .._pairing import canonical_output
from ..activations import Activation
from ..layers import Dense
from ..losses import Huber
from ..network import Network
from ._settings import (
    ADDED,
    REGRESSION_LOSSES,
    hidden_activations,
    hidden_dropout,
    optimizer_of,
    output_activation,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["activations_of", "from_network", "layers", "metadata", "to_network"]

Estimator = TypeVar("Estimator")

_OF_CLASSIFIERS = ("cross_entropy", "log_loss")
# What a network settles; the rest of an estimator's parameters may be given to from_network.
_SETTLED = ("hidden_layer_sizes", "activation", "loss", "dropout", "dtype")


def to_network(estimator: Any) -> Network:
    """Return a network with a copy of a fitted estimator's weights.

    See the method to_network of the estimators for what it has and has not.
    """
    check_is_fitted(estimator)
    coefs, intercepts = estimator.coefs_, estimator.intercepts_
    # Parameters and fitted attributes, with the defaults of what scikit-learn's classes lack
    known = SimpleNamespace(**ADDED | vars(estimator))
    if known.solver == "lbfgs":
        known.solver = "adam"
    network = Network(
        layers(known),
        _loss(known),
        optimizer_of(known),
        n_inputs=len(coefs[0]),
        dtype=coefs[0].dtype,
        seed=int(known.random_state) if isinstance(known.random_state, Integral) else 0,
    )
    network.set_weights([array for pair in zip(coefs, intercepts, strict=True) for array in pair])
    network.metadata.update(metadata(estimator))
    names = getattr(estimator, "feature_names_in_", None)
    network._feature_names = None if names is None else tuple(names.tolist())
    return network


def metadata(estimator: Any) -> dict[str, Any]:
    """Return what a network cannot know by itself: the classes of a classifier."""
    return {"classes": estimator.classes_.tolist()} if is_classifier(estimator) else {}


def activations_of(known: Any) -> list[Activation]:
    """Return the activation of each layer of a fitted estimator."""
    return [
        *hidden_activations(known.activation, len(known.coefs_) - 1),
        output_activation(known.out_activation_),
    ]


def layers(known: Any) -> list[Dense]:
    """Return the layers of a fitted estimator, or of something with its attributes."""
    each = activations_of(known)
    rates = [*hidden_dropout(known.dropout, len(each) - 1), 0.0]
    # In a network penalties are not divided by the batch.
    l2 = float(known.alpha) / full_batch(known.batch_size)
    return [
        Dense(len(intercepts), activation, l2=l2, dropout=rate)
        for intercepts, activation, rate in zip(known.intercepts_, each, rates, strict=True)
    ]


def _loss(known: SimpleNamespace) -> str:
    if known.loss == "log_loss":
        return "cross_entropy" if known.out_activation_ == "softmax" else "log_loss"
    return str(known.loss)


def full_batch(batch_size: Any) -> int:
    """Return the samples of a batch, at least one, or 200 if scikit-learn chooses."""
    return max(1, int(batch_size)) if isinstance(batch_size, Integral) else 200


def from_network(
    cls: type[Estimator], network: Network, *, classes: ArrayLike | None = None, **parameters: Any
) -> Estimator:
    """Return a fitted estimator with a copy of a network's weights.

    See the class method from_network of the estimators for what fits.
    """
    if not isinstance(network, Network):
        raise TypeError(f"network must be a fastgd.Network, not {network!r}")
    weights = network.get_weights()
    is_class = issubclass(cls, ClassifierMixin)
    _check_fits(network, cls.__name__, _OF_CLASSIFIERS if is_class else REGRESSION_LOSSES)
    settled = [name for name in _SETTLED if name in parameters]
    if settled:
        raise TypeError(f"{settled[0]} is the network's, and cannot be given to from_network")
    hidden = network.layers[:-1]
    settings = {
        "hidden_layer_sizes": tuple(layer.units for layer in hidden),
        "solver": network.optimizer.own_copy(),
        "alpha": network.layers[0].l2 * full_batch(parameters.get("batch_size")),
        "dropout": _one_or_each([layer.dropout for layer in hidden], 0.0),
        "activation": _one_or_each([_name(layer.activation) for layer in hidden], "relu"),
        "dtype": network.dtype.name,
    }
    if not is_class:
        if classes is not None:
            raise TypeError("classes is for MLPClassifier only")
        settings["loss"] = network.loss_name
    estimator: Any = cls(**settings | parameters)
    if is_class:
        if classes is None:
            classes = network.metadata.get("classes")
        estimator._label_binarizer = _binarizer(network, classes)
        estimator.classes_ = estimator._label_binarizer.classes_
    # What a first fit would set, from then on as it was in the network.
    estimator._random_state = check_random_state(estimator.random_state)
    units = [len(weights[0]), *(layer.units for layer in network.layers)]
    estimator._initialize(np.empty((0, units[-1])), units, network.dtype)
    estimator.n_features_in_ = units[0]
    if network.feature_names is not None:
        estimator.feature_names_in_ = np.array(network.feature_names, dtype=object)
    estimator.coefs_, estimator.intercepts_ = weights[::2], weights[1::2]
    estimator.n_iter_ = network.epoch
    return estimator  # type: ignore[no-any-return]


def _check_fits(network: Network, owner: str, fitting: tuple[str, ...]) -> None:
    """Raise a ValueError that names what an estimator cannot be or do, unless all of it fits."""
    dense, loss = network.layers, network.loss_name
    if loss not in fitting:
        raise ValueError(
            f"a network with the loss {loss!r} does not become an {owner}; it needs one of "
            f"{', '.join(fitting)}"
        )
    if loss == "huber" and network.loss != Huber():
        raise ValueError(f"the network has the loss {network.loss!r}; an {owner} has {Huber()!r}")
    activation, canonical = dense[-1].activation, canonical_output(loss)
    assert activation is not None
    if activation.name != canonical:
        raise ValueError(
            f"the output activation is {activation.name!r}; with the loss {loss!r} an {owner} has "
            f"{canonical!r}"
        )
    if loss == "cross_entropy" and network.n_outputs == 2:
        raise ValueError(
            "the network has a softmax over 2 classes; an MLPClassifier of 2 classes has one "
            "output, with the loss 'log_loss'"
        )
    if network.input_scale != 1:
        raise ValueError(
            f"the network has input_scale={network.input_scale!r}; an {owner} has none: scale X or "
            "the first layer's weights"
        )
    for i, layer in enumerate(dense):
        if not layer.use_bias:
            raise ValueError(f"layer {i} has no bias; an {owner} has one in every layer")
        if layer.l1:
            raise ValueError(f"layer {i} has l1={layer.l1!r}; an {owner} has no such penalty")
        if layer.l2 != dense[0].l2:
            raise ValueError(
                f"layer {i} has l2={layer.l2!r} and layer 0 has {dense[0].l2!r}; the alpha of an "
                f"{owner} holds for all layers"
            )


def _binarizer(network: Network, classes: ArrayLike | None) -> LabelBinarizer:
    """Return what turns labels into the columns of the network's output, and back."""
    outputs = network.n_outputs
    binary = network.loss_name == "log_loss"
    count = 2 if binary and outputs == 1 else outputs
    given = np.arange(count) if classes is None else np.asarray(classes)
    # A classifier that has seen one class only is one of two, of which the other never comes.
    is_alone = binary and outputs == 1 and given.shape == (1,)
    if given.shape != (count,) and not is_alone:
        raise ValueError(
            f"classes has shape {given.shape}; a network with {outputs} "
            f"output{'s' if outputs > 1 else ''} and the loss {network.loss_name!r} needs "
            f"({count},)"
        )
    several = binary and outputs > 1
    binarizer = LabelBinarizer().fit(np.eye(count, dtype=int) if several else given)
    if not np.array_equal(binarizer.classes_, given):
        raise ValueError(
            f"classes must be {list(range(count)) if several else 'sorted and different'}"
            f"{' for several labels at once' if several else ''}, not {given.tolist()}"
        )
    return binarizer


def _one_or_each(values: list[Any], default: Any) -> Any:
    """Return the value that all have in common, else the list of them."""
    if not values:
        return default
    return values[0] if all(value == values[0] for value in values) else values


def _name(activation: Activation | None) -> str | Activation:
    """Return the name that an estimator takes, or the object if it has settings of its own."""
    assert activation is not None
    if activation != activations.get(activation.name):
        return activation
    return "logistic" if activation.name == "sigmoid" else activation.name
