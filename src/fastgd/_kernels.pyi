"""Raw operations on plain C-contiguous arrays of one dtype, already validated by `kernels`."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from typing_extensions import disjoint_base

# Arrays whose dtype, shape and layout `kernels` has checked; nothing is checked here.
_Array: TypeAlias = Any

ACTIVATIONS: tuple[str, ...]

def forward(
    X: _Array,
    W: _Array,
    b: _Array | None,
    act: str,
    param: float,
    out: _Array,
    z_out: _Array | None,
) -> None: ...
def activation(act: str, param: float, z: _Array, out: _Array) -> None: ...
def activation_grad(act: str, param: float, da: _Array, x: _Array, out: _Array) -> None: ...
def backward(
    delta: _Array, W: _Array, act: str, param: float, x: _Array | None, out: _Array
) -> None: ...
def weight_grad(A_prev: _Array, delta: _Array, dW: _Array, db: _Array) -> None: ...
def loss(
    kind: str,
    param: float,
    output_act: str,
    act_param: float,
    z: _Array,
    y: _Array,
    sample_weight: _Array | None,
    delta_out: _Array,
) -> float: ...
def update(
    opt: str,
    W: _Array,
    b: _Array | None,
    A_prev: _Array,
    delta: _Array,
    s1: tuple[_Array, ...] | None,
    s2: tuple[_Array, ...] | None,
    params: Mapping[str, Any],
) -> bool: ...

@disjoint_base
class Assignment:
    def __new__(cls, arrays: list[_Array], values: list[_Array]) -> Assignment: ...
    def assign(self) -> None: ...

def all_finite(array: _Array) -> bool: ...
def built_isas() -> tuple[str, ...]: ...
def available_isas() -> tuple[str, ...]: ...
def active_isa() -> str: ...
def set_isa(name: str, argument: str = "name") -> None: ...

@disjoint_base
class ordinary_fp_mode:
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...

def thread_limit() -> int: ...
def inject_fault(kernel: str | None) -> None: ...
def build_info() -> dict[str, Any]: ...
def fma_peak(dtype: str, seconds: float = 0.05) -> float: ...
