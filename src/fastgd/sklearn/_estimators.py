"""MLPClassifier and MLPRegressor: scikit-learn's interface over fastgd's engine.

Both are subclasses of scikit-learn's own classes: what is not defined here is theirs.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_is_fitted,
    validate_data,
)

from .._training import Data
from ..layers import check_sizes
from . import _conversion, _fast_path, _lbfgs, _live, _originals, _settings, _stochastic
from ._callbacks import CallbackSupport
from ._live import Live
from ._refusals import turn, undo_if_refused
from ._stochastic import Validation

if TYPE_CHECKING:
    from ..network import Network

__all__ = ["MLPClassifier", "MLPRegressor"]

# Parameters that have been validated, as _fast_path.settings_key has them.
_valid: set[tuple[Any, ...]] = set()
_MOST_VALID = 1024


def _constructor(original: type, added: dict[str, Any]) -> Callable[..., None]:
    """Return an __init__ with the parameters of the installed original, and the added ones."""
    of_original = _originals.parameters(original)
    names = [parameter.name for parameter in of_original]
    new = {name: value for name, value in added.items() if name not in names}
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature(
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *of_original,
            *(inspect.Parameter(name, keyword_only, default=new[name]) for name in new),
        ]
    )

    def __init__(*args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            # The original says what is wrong, in its own words.
            known = {name: value for name, value in kwargs.items() if name not in new}
            original.__init__(*args, **known)  # type: ignore[misc]
            raise
        bound.apply_defaults()
        values = bound.arguments
        self = values["self"]
        original.__init__(self, **{name: values[name] for name in names})  # type: ignore[misc]
        for name in new:
            setattr(self, name, values[name])

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{original.__name__}.__init__"
    return __init__


def _named_partial_fit(method: Callable[..., Any]) -> Callable[..., Any]:
    # By this name scikit-learn knows that parameters are validated before the first call only.
    method.__name__ = "partial_fit"
    return method


class FastMLP(CallbackSupport):
    """What classifier and regressor share; stands before scikit-learn's class."""

    # Set by scikit-learn's class, or here in its place.
    n_features_in_: int
    n_outputs_: int
    out_activation_: str

    # ---- fitting ---------------------------------------------------------------------------

    @undo_if_refused
    @_fit_context(prefer_skip_nested_validation=True)
    @_originals.weighted_as_installed
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Fit the model to X and y.

        Parameters
        ----------
        X : array, data frame or sparse matrix (n_samples, n_features)
        y : array (n_samples,) or (n_samples, n_outputs)
            Class labels, an indicator matrix of several labels at once, or real targets.
        sample_weight : array (n_samples,), optional
            If the installed scikit-learn takes weights, from 1.7 on.
        X_val, y_val, sample_weight_val : optional
            Data to validate with after every epoch, in place of a part of X where
            ``early_stopping`` is True.

        Returns
        -------
        self
        """
        given = self._given(X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight=sample_weight, given=given)

    def _validate_params(self) -> None:
        key = _fast_path.settings_key(self)
        if key is not None and key in _valid:
            return
        super()._validate_params()  # type: ignore[misc]
        if key is not None and len(_valid) < _MOST_VALID:
            _valid.add(key)

    def _check_solver(self) -> bool:
        if isinstance(self.solver, str) and self.solver not in _settings.STOCHASTIC:
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        given: tuple[Any, Any, Any] | None = None,
    ) -> Any:
        """Fit; given: validation data as it came."""
        hidden = _settings.hidden_sizes(self.hidden_layer_sizes)
        _settings.check(self, len(hidden))
        is_first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        if not is_first:
            _settings.check_loss(self)
        data = self._checked(X, y, sample_weight, incremental, is_first)
        n_outputs = self.n_outputs_
        validation = None if given is None else self._checked_validation(*given)
        self._random_state = check_random_state(self.random_state)
        self._check_range(data, validation, is_first)
        if not is_first:
            data = data._replace(y=self._for_all_outputs(data.y))
        if is_first:
            units = [data.X.shape[1], *hidden, n_outputs]
            check_sizes(units[1:], units[0])
            self._initialize(np.empty((0, n_outputs)), units, self._network_dtype(data.X))
        self._is_incremental = incremental
        if self.solver == "lbfgs":
            _lbfgs.fit(self, data)
        else:
            _stochastic.fit(self, data, incremental, is_first, validation)
        arrays = (*self.coefs_, *self.intercepts_)
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(_stochastic.NOT_FINITE)
        return self

    def _check_range(self, data: Data, validation: Validation | None, is_first: bool) -> None:
        """Refuse numbers that the dtype of the training does not hold."""
        if self.dtype is not None or is_first:
            dtype = self._network_dtype(data.X)
        else:
            dtype = _live.dtype_of(self)
        if self.dtype is None and self.solver == "lbfgs":
            dtype = np.dtype(np.float64)
        _live.check_range("X", data.X, dtype)
        _live.check_range("y", data.y, dtype)
        if validation is not None:
            _live.check_range("X_val", validation.data.X, dtype)
            _live.check_range("y_val", validation.data.y, dtype)

    def _for_all_outputs(self, target: Any) -> Any:
        # One column beside several outputs stands for each of them in scikit-learn's losses.
        n_outputs = len(self.intercepts_[-1])
        if target.ndim == 2 and target.shape[1] == 1 and n_outputs > 1:
            return np.repeat(target, n_outputs, axis=1)
        return target

    def _partial_fit_plainly(self, X: Any, y: Any) -> bool:
        """Train on plain arrays that fit what came before; False, and nothing done, for others."""
        live = self.__dict__.get("_live")
        if live is None or live.ready is None:
            return False
        with turn(self):
            target = self._plain_targets(X, y, incremental=True, is_first=False)
            if target is None:
                return False
            return _stochastic.partial_fit_plainly(self, X, self._for_all_outputs(target))

    def _is_plain(self, X: Any, is_first: bool) -> bool:
        """Tell whether X is what the fast path takes, with the features of an earlier fit."""
        if not _fast_path.is_allowed() or (not is_first and hasattr(self, "feature_names_in_")):
            return False
        if type(self)._validate_input not in _originals.CHECKS:  # type: ignore[attr-defined]
            return False
        return _fast_path.features(X, None if is_first else self.n_features_in_)

    def _note_features(self, X: Any) -> None:
        # Of a first fit, of an array, which has no names.
        self.n_features_in_ = X.shape[1]
        self.__dict__.pop("feature_names_in_", None)

    def _network_dtype(self, X: Any) -> np.dtype[Any]:
        return np.dtype(X.dtype if self.dtype is None else self.dtype)

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, is_first: bool
    ) -> Data:
        """Return checked data as the engine takes it, whose columns are n_outputs_ from now on."""
        found = self._plain_targets(X, y, incremental, is_first)
        if found is None:
            X, y = self._validate_input(X, y, incremental, reset=is_first)
            X = X.tocsr() if _live.is_sparse(X) else X
            target = self._engine_targets(y.reshape(-1, 1) if y.ndim == 1 else y)
        else:
            target = found
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
            sample_weight = sample_weight.astype(np.float64, copy=False)
        weight = self._weights(sample_weight, target, incremental)
        self.n_outputs_ = target.shape[1] if target.ndim == 2 else len(self.classes_)
        return Data(X, target, weight)

    def _weights(self, sample_weight: Any, target: Any, incremental: bool) -> Any:
        return sample_weight

    def _initialize(self, y: Any, layer_units: list[int], dtype: Any) -> None:
        super()._initialize(y, layer_units, dtype)  # type: ignore[misc]
        if self.loss == "poisson":
            # 1.6 knows no such loss.
            self.out_activation_ = "exp"
        # The copies that are needed are _stochastic's.
        del self._best_coefs, self._best_intercepts
        self._live = Live()
        # It would stand beside the losses of other epochs.
        self.__dict__.pop("validation_loss_curve_", None)
        if self.solver == "lbfgs":
            return
        # scikit-learn's own knows two solvers.
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        early = self.early_stopping
        self.validation_scores_: list[float] | None = [] if early else None
        self.best_validation_score_: float | None = -np.inf if early else None
        self.best_loss_: float | None = None if early else np.inf

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[Any, Any]:
        # scikit-learn's own goes by the name "logistic" only.
        factor = _settings.init_factor(self.activation, len(self.coefs_))
        bound = np.sqrt(factor / (fan_in + fan_out))
        W = self._random_state.uniform(-bound, bound, (fan_in, fan_out))
        b = self._random_state.uniform(-bound, bound, fan_out)
        return W.astype(dtype, copy=False), b.astype(dtype, copy=False)

    def _checked_validation(self, X: Any, y: Any, sample_weight: Any) -> Validation:
        """Return validation data that were given to fit, checked."""
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype=(np.float64, np.float32),
            reset=False,
        )
        y = check_array(y, accept_sparse="csr", ensure_2d=False, dtype=None, input_name="y_val")
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.toarray().ravel() if _live.is_sparse(y) else y.ravel()
        if y.shape[0] != X.shape[0]:
            raise ValueError(f"X_val has {X.shape[0]} samples, but y_val has {y.shape[0]}")
        target = self._validation_targets(y)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X).astype(np.float64)
        return Validation(Data(X, target, sample_weight), self._truth(target))

    def _check_columns(self, y: Any) -> None:
        """Check that y_val, of two dimensions if it has several columns, has those of y."""
        columns = 1 if y.ndim == 1 else y.shape[1]
        if columns != self._n_columns():
            raise ValueError(
                f"y_val must have as many columns as y, {self._n_columns()}, not {columns}"
            )

    def _given(self, X_val: Any, y_val: Any, sample_weight_val: Any) -> Any:
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together")
        if X_val is None:
            if sample_weight_val is not None:
                raise ValueError("sample_weight_val needs X_val and y_val")
            return None
        if self.solver == "lbfgs":
            raise ValueError(
                "X_val and y_val need a stochastic solver; solver='lbfgs' has no epochs: choose "
                f"from {', '.join(_settings.STOCHASTIC)}"
            )
        return X_val, y_val, sample_weight_val

    # ---- prediction ------------------------------------------------------------------------

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> Any:
        if check_input:
            named = hasattr(self, "feature_names_in_")
            if not named and type(X) is np.ndarray and X.dtype == self.coefs_[0].dtype:
                found = _live.live_network(self)._live().short_predict(X)
                if found is not None:
                    return found
            if named or not _fast_path.features(X, self.n_features_in_):
                X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        # Of longdouble, dates and other dtypes, and of numbers that the network's dtype does not
        # hold, what NumPy makes of them.
        is_numpys = self.dtype is None and _originals.computes(self)
        if not _fast_path.is_native(X.dtype):
            if is_numpys:
                return super()._forward_pass_fast(X, check_input=False)  # type: ignore[misc]
            own = self.coefs_[0].dtype
            own = own if np.can_cast(X.dtype, own) else np.dtype(np.float64)
            _live.check_range("X", X, own)
            X = X.astype(own, casting="same_kind")
        X = X.tocsr() if _live.is_sparse(X) else X
        found = _live.outputs(self, X)
        if found is None and is_numpys:
            return super()._forward_pass_fast(X, check_input=False)  # type: ignore[misc]
        if found is None:
            own = self.coefs_[0].dtype
            _live.check_range("X", X, own)
            raise ValueError(f"X has values that are not finite in {own}")
        return found

    # ---- other forms -----------------------------------------------------------------------

    def to_network(self) -> Network:
        """Return a `fastgd.Network` with a copy of the weights, which predicts the same.

        Its penalties are those of a whole batch, alpha / batch_size (of 200 where that is "auto"),
        and its optimiser begins anew; that of the solver "lbfgs" is Adam.

        Returns
        -------
        Network
            With ``metadata["classes"]`` of a classifier.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from fastgd.sklearn import MLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> network = MLPClassifier(max_iter=500, random_state=0).fit(X, y).to_network()
        >>> network.predict(X[:1]).shape
        (1, 3)
        """
        check_is_fitted(self)
        return _conversion.to_network(self)

    @classmethod
    def from_network(cls, network: Network, *, classes: Any = None, **parameters: Any) -> Any:
        """Return a fitted estimator with the weights of a network.

        Parameters
        ----------
        network : Network
        classes : array, optional
            The classifier's classes in the order of the outputs; by default those in the network's
            metadata, else numbers from 0 on.
        **parameters
            Of the constructor, but for those that the network settles.

        Raises
        ------
        ValueError
            If the network's loss, output, scaling or penalties have no counterpart here.
        TypeError
            If a parameter is the network's.

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> from fastgd.sklearn import MLPClassifier
        >>> network = fastgd.Network([fastgd.Dense(3)], "cross_entropy", n_inputs=2)
        >>> model = MLPClassifier.from_network(network, classes=["a", "b", "c"])
        >>> model.predict(np.zeros((1, 2))).tolist()
        ['a']
        """
        return _conversion.from_network(cls, network, classes=classes, **parameters)

    # ---- copies ----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # The optimiser's moments are for those who go on from them.
        return self._plain_state(bool(self.__dict__.get("_is_incremental", False)))

    def _plain_state(self, with_moments: bool) -> dict[str, Any]:
        state = dict(super().__getstate__())  # type: ignore[misc]
        state.pop("_attempts", None)
        live: Live | None = state.pop("_live", None)
        if live is not None:
            for name in ("coefs_", "intercepts_"):
                state[name] = [np.array(array, order="C") for array in state[name]]
            state["_state"] = live.state(with_moments)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_state" in state:
            state = dict(state)
            state["_live"] = Live(kept=state.pop("_state"))
        super().__setstate__(state)  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__setstate__(copy.deepcopy(self._plain_state(with_moments=True), memo))
        return other

    def __copy__(self) -> Any:
        # Shares the arrays, and the network with them.
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other


class MLPClassifier(FastMLP, _originals.MLPClassifier):  # type: ignore[misc]
    """scikit-learn's MLPClassifier, trained by fastgd: the same numbers, sooner.

    Takes every parameter of ``sklearn.neural_network.MLPClassifier`` of the installed version,
    with the same meaning and default, and these, by keyword only.

    Parameters
    ----------
    activation : str, activation object, or list of them
        Also every activation of fastgd, and one for each hidden layer.
    solver : str or optimizer object
        Also "adamw", "rmsprop", "adagrad", with torch's formulas, ``learning_rate_init`` and
        ``weight_decay``; or an object from fastgd.optimizers with settings of its own.
    dropout : float or list of float, default=0.0
        Of the hidden layers, while training.
    lr_schedule : schedule or callable, optional
        From fastgd.schedules, for any stochastic solver, in place of ``learning_rate_init``.
    weight_decay : float, default=0.0
        As the solver's formula has it, beside ``alpha``.
    clip_value, clip_norm : float, optional
        Bounds of each element of the gradient, and of its norm.
    scoring : str or callable, optional
        What validation data are scored by: by default accuracy; "loss" is minus the validation
        loss; or any scorer of scikit-learn, which gets the data's weights if it takes them.
    callbacks : list of fastgd.Callback, optional
    progress_bar : bool, default=False
    n_threads : int, optional
        By default that of `fastgd.config`. Results do not depend on it.
    dtype : {"float32", "float64"}, optional
        Of weights, arithmetic and outputs; by default that of X.
    class_weight : dict or "balanced", optional
        Multiplies the samples' weights; "balanced" is for `fit` only.

    Attributes
    ----------
    validation_loss_curve_ : list of float
        The loss of the validation data after each epoch, where there are any.
    history_ : fastgd.History
        What happened in each epoch of the newest fit.

    Notes
    -----
    Where scikit-learn surprises, this class follows the installed version: multiclass early
    stopping is not stratified.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastgd.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier(max_iter=500, random_state=0).fit(X, y).score(X, y) > 0.95
    True
    """

    __init__ = _constructor(_originals.MLPClassifier, _settings.ADDED_TO_CLASSIFIER)

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_originals.MLPClassifier._parameter_constraints,
        **_settings.CLASSIFIER_CONSTRAINTS,
    }

    classes_: Any
    _label_binarizer: Any

    # ---- targets ---------------------------------------------------------------------------

    def _plain_targets(self, X: Any, y: Any, incremental: bool, is_first: bool) -> Any:
        if not self._is_plain(X, is_first):
            return None
        if hasattr(self, "classes_") and (self.warm_start or incremental):
            # A warm start asks for all classes, which the long way sees to.
            if self.warm_start or self._label_binarizer.y_type_ not in ("binary", "multiclass"):
                return None
            numbers = _fast_path.class_numbers(y, len(X), self.classes_)
            if numbers is None:
                return None
        else:
            found = _fast_path.first_classes(y, len(X))
            if found is None:
                return None
            self._label_binarizer, numbers = found
            self.classes_ = self._label_binarizer.classes_
        if is_first:
            self._note_features(X)
        n_classes = len(self.classes_)
        return numbers if n_classes > 2 else numbers.astype(np.uint8).reshape(-1, 1)

    def _engine_targets(self, y: Any) -> Any:
        # y is scikit-learn's matrix of booleans.
        if self._label_binarizer.y_type_ == "multiclass" and y.shape[1] > 1:
            return y.argmax(axis=1)
        return np.ascontiguousarray(y).view(np.uint8)

    def _n_columns(self) -> int:
        is_multilabel = self._label_binarizer.y_type_ == "multilabel-indicator"
        return self.n_outputs_ if is_multilabel else 1

    def _validation_targets(self, y: Any) -> Any:
        self._check_columns(y)
        unknown = np.setdiff1d(y, self.classes_) if y.ndim == 1 else ()
        if len(unknown):
            raise ValueError(f"y_val has classes {unknown} that y does not have: {self.classes_}")
        return self._engine_targets(self._label_binarizer.transform(y).astype(bool))

    def _weights(self, sample_weight: Any, target: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not for partial_fit, which does not know how often "
                "the classes will come; give their weights in a dict, such as "
                "sklearn.utils.class_weight.compute_class_weight finds from all of y"
            )
        weight = self._class_weights(target)
        if not np.isfinite(weight).all():
            raise ValueError(f"class_weight must hold finite weights, not {self.class_weight!r}")
        return weight if sample_weight is None else weight * sample_weight

    def _class_weights(self, target: Any) -> Any:
        """Return the weight that each sample has by its class."""
        is_multilabel = self._label_binarizer.y_type_ == "multilabel-indicator"
        if is_multilabel or self.class_weight == "balanced":
            return compute_sample_weight(self.class_weight, self._truth(target))
        # Of all classes: a dict may name one that this y lacks, as in partial_fit.
        known = self.classes_
        each = compute_class_weight(self.class_weight, classes=known, y=known)
        return each[target.ravel()]

    def _truth(self, target: Any) -> Any:
        if target.ndim == 1:
            return self.classes_[target]
        return self._label_binarizer.inverse_transform(target)

    # ---- use -------------------------------------------------------------------------------

    def _labels(self, output: Any) -> Any:
        # Classes of another number of outputs, which someone has set, are refused below.
        kind, n_columns = self._label_binarizer.y_type_, output.shape[1]
        if kind == "multiclass" and n_columns > 1:
            return self.classes_.take(output.argmax(axis=1))
        if kind == "binary" and n_columns == 1 and len(self.classes_) == 2:
            return self.classes_[(output[:, 0] > 0.5).view(np.int8)]
        if self.n_outputs_ == 1:
            output = output.ravel()
        return self._label_binarizer.inverse_transform(output)

    def _predict(self, X: Any, check_input: bool = True) -> Any:
        return self._labels(self._forward_pass_fast(X, check_input=check_input))

    def _score_outputs(self, output: Any, data: Data, truth: Any) -> float:
        if np.isnan(output).any():
            # What scikit-learn makes of them: the first class, or an error.
            columns = output.ravel() if self.n_outputs_ == 1 else output
            labels = self._label_binarizer.inverse_transform(columns)
        else:
            labels = self._labels(output)
        if labels.ndim == 2:
            # They are sparse if y was.
            return float(accuracy_score(truth, labels, sample_weight=data.sample_weight))
        return float(np.average(labels == truth, weights=data.sample_weight))

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any) -> Any:
        if sample_weight is None and classes is None and self._partial_fit_plainly(X, y):
            return self
        return self._partial_fit_checked(X, y, sample_weight, classes)

    @undo_if_refused
    @_fit_context(prefer_skip_nested_validation=True)
    @_named_partial_fit
    def _partial_fit_checked(self, X: Any, y: Any, sample_weight: Any, classes: Any) -> Any:
        if classes is not None or not hasattr(self, "classes_"):
            self._check_classes(y, classes)
        return self._fit(X, y, sample_weight=sample_weight, incremental=True)

    def _check_classes(self, y: Any, classes: Any) -> None:
        if _check_partial_fit_first_call(self, classes):
            is_multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if is_multilabel else classes)

    @available_if(lambda est: est._check_solver())
    @_originals.weighted_as_installed
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """Train one epoch on X and y.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array, optional
            All classes that will ever come; needed at the first call.

        Returns
        -------
        self
        """
        return self._partial_fit(X, y, sample_weight, classes)


class MLPRegressor(FastMLP, _originals.MLPRegressor):  # type: ignore[misc]
    """scikit-learn's MLPRegressor, trained by fastgd: the same numbers, sooner.

    Takes every parameter of ``sklearn.neural_network.MLPRegressor`` of the installed version, with
    the same meaning and default, and those that `MLPClassifier` adds, except class_weight.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error", "huber"}
        The last two are summed over outputs, huber with a threshold of 1.

    Notes
    -----
    Where scikit-learn surprises, this class follows the installed version: its squared error is
    a mean over the outputs, but the gradient that trains is that of their sum.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import StandardScaler
    >>> from fastgd.sklearn import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X = StandardScaler().fit_transform(X)
    >>> model = MLPRegressor(hidden_layer_sizes=(20,), solver="lbfgs", alpha=10, max_iter=1000,
    ...                      random_state=0)
    >>> model.fit(X, y / 100).score(X, y / 100) > 0.5
    True
    """

    __init__ = _constructor(_originals.MLPRegressor, _settings.ADDED_TO_REGRESSOR)

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_originals.MLPRegressor._parameter_constraints,
        **_settings.REGRESSOR_CONSTRAINTS,
    }

    def _plain_targets(self, X: Any, y: Any, incremental: bool, is_first: bool) -> Any:
        if not self._is_plain(X, is_first) or not _fast_path.regression_targets(y, len(X)):
            return None
        if is_first:
            self._note_features(X)
        return self._engine_targets(y.reshape(-1, 1) if y.ndim == 1 else y)

    def _engine_targets(self, y: Any) -> Any:
        if _fast_path.is_native(y.dtype):
            return y
        # A difference of real numbers; text and dates fail as they do in scikit-learn's loss.
        return np.subtract(y, np.zeros(1)).astype(np.float64)

    def _n_columns(self) -> int:
        return self.n_outputs_

    def _validation_targets(self, y: Any) -> Any:
        self._check_columns(y)
        return self._engine_targets(y.reshape(-1, 1) if y.ndim == 1 else y)

    def _truth(self, target: Any) -> Any:
        return target.ravel() if target.shape[1] == 1 else target

    def _predict(self, X: Any, check_input: bool = True) -> Any:
        output = self._forward_pass_fast(X, check_input=check_input)
        return output.ravel() if output.shape[1] == 1 else output

    def _score_outputs(self, output: Any, data: Data, truth: Any) -> float:
        if not np.isfinite(output).all():
            return float("nan")
        return float(r2_score(data.y, output, sample_weight=data.sample_weight))

    # scikit-learn's own offers partial_fit for every solver.
    @_originals.weighted_as_installed
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train one epoch on X and y, as `fit` takes them.

        Returns
        -------
        self
        """
        if sample_weight is None and self._partial_fit_plainly(X, y):
            return self
        return self._partial_fit_checked(X, y, sample_weight)

    @undo_if_refused
    @_fit_context(prefer_skip_nested_validation=True)
    @_named_partial_fit
    def _partial_fit_checked(self, X: Any, y: Any, sample_weight: Any) -> Any:
        return self._fit(X, y, sample_weight=sample_weight, incremental=True)
