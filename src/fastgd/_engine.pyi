"""The training engine: it owns weights and work buffers and runs whole epochs natively."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

_Array = NDArray[Any]
BUSY: str

_Verify = Callable[[str, int, Mapping[str, Any], Mapping[str, Any]], object]

def shuffle_in_turn(
    random_state: np.random.RandomState, before: NDArray[np.int64], orders: NDArray[np.int64]
) -> None: ...

class Divergence(ArithmeticError):
    epoch_in_call: int
    step_in_call: int
    what: str
    lr: float | None
    def __init__(
        self, epoch_in_call: int, step_in_call: int, what: str, lr: float | None = None
    ) -> None: ...

@disjoint_base
class Engine:
    custom_loss: Any
    short_path: int
    input_scale: float
    step: int
    epoch: int
    seed: int
    n_threads: int
    serial_flop: float
    long_flop: float
    @property
    def has_gradient(self) -> bool: ...
    def __new__(
        cls,
        n_inputs: int,
        units: list[int],
        activations: list[tuple[str, float]],
        use_bias: list[bool],
        dtype: str,
        seed: int,
    ) -> Engine: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def n_inputs(self) -> int: ...
    @property
    def units(self) -> list[int]: ...
    @property
    def activations(self) -> list[tuple[str, float]]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def n_steps_per_epoch(self) -> int: ...
    def weight(self, i: int) -> _Array: ...
    def bias(self, i: int) -> _Array | None: ...
    def set_penalties(self, l1: Sequence[float], l2: Sequence[float]) -> None: ...
    def set_dropout(self, rates: Sequence[float]) -> None: ...
    def set_loss(self, kind: str, param: float) -> None: ...
    def set_optimizer(self, name: str, params: dict[str, Any]) -> None: ...
    def update_optimizer(self, params: dict[str, Any]) -> None: ...
    def set_own_updates(
        self, updates: list[tuple[dict[str, Any] | None, dict[str, Any] | None]]
    ) -> None: ...
    def optimizer_state(self) -> dict[str, list[tuple[_Array, _Array | None]]]: ...
    def set_account(self, account: str, loss_scale: float, grad_scale: float = 1.0) -> None: ...
    def bind(
        self,
        X: _Array,
        y: _Array,
        sample_weight: _Array | None,
        batch_size: int,
        shuffle: bool,
        order: NDArray[np.int64] | None = None,
    ) -> None: ...
    def unbind(self) -> None: ...
    def draw_order(self, order: NDArray[np.int64], seed: int) -> None: ...
    def run_epochs(
        self,
        lrs: float | NDArray[np.float64],
        n_epochs: int,
        *,
        losses: NDArray[np.float64] | None = None,
        outputs: _Array | None = None,
        on_slice: Callable[[int], object] | None = None,
        on_batch: Callable[[int, float], object] | None = None,
        verify: _Verify | None = None,
        verify_all: bool = False,
        sums: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]: ...
    def train_step(
        self, X: _Array, y: _Array, sample_weight: _Array | None, lr: float
    ) -> float: ...
    @property
    def forms(self) -> tuple[bool, ...]: ...
    def path(self, n: int, is_plain: bool) -> int: ...
    def short_step(self, X: object, y: object, optimizer: Any) -> float | None: ...
    def checked_step(
        self, X: _Array, y: _Array, sample_weight: _Array | None, lr: float, verify: _Verify
    ) -> float: ...
    def loss_and_grad(
        self, X: _Array, y: _Array, sample_weight: _Array | None
    ) -> tuple[float, list[tuple[_Array, _Array | None]]]: ...
    def look(self, X: _Array, y: _Array, sample_weight: _Array | None, watch: _Verify) -> float: ...
    def predict(self, X: _Array, out: _Array) -> bool: ...
    def short_predict(self, X: object) -> _Array | None: ...
    def evaluate(
        self,
        X: _Array,
        y: _Array,
        sample_weight: _Array | None,
        outputs: _Array | None = None,
    ) -> tuple[float, float]: ...
    def all_finite(self) -> bool: ...
