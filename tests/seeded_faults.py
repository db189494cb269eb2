"""Faults of the kind that a slip of the pen makes, each of which the suite must notice.

`tools/find_seeded_faults.py` makes one after the other in a copy of the sources and runs the file
of tests named with it; `test_seeded_faults.py` sees whether what they change is still there.
"""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Fault(NamedTuple):
    """A file, what is right in it, what is wrong in its place, and tests of the plain suite that
    must find it."""

    file: str
    right: str
    wrong: str
    tests: str

    def text(self, root=ROOT):
        """Return the text of the file in a folder, with the fault in it."""
        text = (root / self.file).read_text("utf-8")
        count = text.count(self.right)
        assert count == 1, f"{self.file}: {self.right!r} is there {count} times"
        return text.replace(self.right, self.wrong)


_KERNELS = "csrc/template/"
_LOADERS = "src/fastgd/"

FAULTS = {
    # ---- kernels
    "sum of a tile without its tail": Fault(
        _KERNELS + "gemm.h",
        "for (size_t left = k % FGD_UKR_STEPS; left > 0; left--)",
        "for (size_t left = k % FGD_UKR_STEPS; left > 1; left--)",
        "test_engine",
    ),
    "column sums from the second row on": Fault(
        _KERNELS + "gemm.h",
        "for (size_t p = 0; p < k; p++) acc = V(add)",
        "for (size_t p = 1; p < k; p++) acc = V(add)",
        "test_kernels",
    ),
    "linear model without its last inputs": Fault(
        _KERNELS + "gemm.h",
        "const size_t rows = k < whole ? 16 : fan_in - k;",
        "const size_t rows = k < whole ? 16 : 0;",
        "test_engine",
    ),
    "few samples turned without their tail": Fault(
        _KERNELS + "few_samples.h",
        "for (size_t q = 0; q < k - whole; q++) {",
        "for (size_t q = 0; q + 1 < k - whole; q++) {",
        "test_engine",
    ),
    "strides swapped where an activation reads": Fault(
        _KERNELS + "activations.h",
        "f(V(load)(z + i * ldz + j), p));",
        "f(V(load)(z + i * lda + j), p));",
        "test_c_core",
    ),
    "sign of tanh's derivative": Fault(
        _KERNELS + "activations.h",
        "return (void)param, V(fnma)(a, a, V(set1)(1)); }",
        "return (void)param, V(fma)(a, a, V(set1)(1)); }",
        "test_kernels",
    ),
    "gelu's derivative without a term": Fault(
        _KERNELS + "activations.h",
        "const VF h = V(mul)(V(fnma)(x, inv_sqrt_2pi, tail), V(normal_density)(x));",
        "const VF h = V(mul)(V(fnma)(x, V(zero)(), tail), V(normal_density)(x));",
        "test_kernels",
    ),
    "softmax not shifted by the largest": Fault(
        _KERNELS + "activations.h",
        "const VF e = V(exp)(V(sub)(V(load)(z + k * ldz + j), m));",
        "const VF e = V(exp)(V(sub)(V(load)(z + k * ldz + j), V(sub)(m, m)));",
        "test_kernels",
    ),
    "sign in huber's loss": Fault(
        _KERNELS + "losses.h",
        "return V(mul)(c, V(fnma)(V(set1)((REAL)0.5), c, e));",
        "return V(mul)(c, V(fma)(V(set1)((REAL)0.5), c, e));",
        "test_kernels",
    ),
    "dropout that does not make up for what it drops": Fault(
        _KERNELS + "dropout.h",
        "const REAL kept_value = (REAL)(1 / (1 - p));",
        "const REAL kept_value = (REAL)(1 - 0 * p);",
        "test_kernels",
    ),
    "inputs that are not scaled": Fault(
        _KERNELS + "gather.h",
        "dst[i] = (REAL)value * scale; ",
        "dst[i] = (REAL)value; (void)scale; ",
        "test_numbers",
    ),
    "sign of the step with momentum": Fault(
        _KERNELS + "optimizers.h",
        "*s1 = V(fma)(r->momentum, *s1, g);\n    return V(fma)(r->neg_lr, *s1, w);",
        "*s1 = V(fma)(r->momentum, *s1, g);\n    return V(fnma)(r->neg_lr, *s1, w);",
        "test_kernels",
    ),
    "Adam without eps": Fault(
        _KERNELS + "optimizers.h",
        "V(fma)(V(sqrt)(*s2), r->root_scale, r->eps);",
        "V(fma)(V(sqrt)(*s2), r->root_scale, V(zero)());",
        "test_kernels",
    ),
    "the delta rule online with the bias of the step before": Fault(
        _KERNELS + "online.h",
        "V(select)(first, new_b, none), 1);",
        "V(select)(first, b, none), 1);",
        "test_engine",
    ),
    # ---- engine
    "mean over one sample too many": Fault(
        "csrc/fgd_net_body.h",
        "scale * (is_sum ? 1 : 1 / (double)batch->n)",
        "scale * (is_sum ? 1 : 1 / (double)(batch->n + 1))",
        "test_engine",
    ),
    "gradient through units that dropout has left out": Fault(
        "csrc/fgd_net_body.h",
        "pass.mask = dropout ? below->mask : NULL;",
        "pass.mask = NULL;",
        "test_engine",
    ),
    "l2 penalty twice as large in the loss": Fault(
        "csrc/fgd_net_body.h",
        "sum += layer->l2 / 2 * t->row_sumsq",
        "sum += layer->l2 * t->row_sumsq",
        "test_engine",
    ),
    "small gradients scaled up to clip_norm": Fault(
        "csrc/fgd_net_body.h",
        "return scale < 1 ? scale : 1;",
        "return scale;",
        "test_engine",
    ),
    "bias correction one step late": Fault(
        "csrc/fgd_net.c",
        "p->bias2 = 1 - fgd_power(p->beta2, step + 1);",
        "p->bias2 = 1 - fgd_power(p->beta2, step + 2);",
        "test_engine",
    ),
    "the last row never shuffled": Fault(
        "csrc/fgd_net.c",
        "const size_t i = n - 1 - t0 - t, j = partner[t];",
        "const size_t i = n - 1 - t0 - t, j = t0 + t ? partner[t] : i;",
        "test_engine",
    ),
    "a mean of the losses that forgets their weights": Fault(
        "src/fastgd/_engine.pyx",
        "losses[epoch] = k.mean_loss(progress.loss_sum, progress.weight_sum)",
        "losses[epoch] = k.mean_loss(progress.loss_sum, <double>n)",
        "test_engine",
    ),
    # ---- loaders
    "IDX integers in the other byte order": Fault(
        _LOADERS + "_idx.py", '0x0B: ">i2"', '0x0B: "<i2"', "test_idx"
    ),
    "IDX data that go on": Fault(
        _LOADERS + "_idx.py", "    if stream.read(1):", "    if stream.read(0):", "test_idx"
    ),
    "model files whose checksum is not looked at": Fault(
        _LOADERS + "io.py",
        'if _digest(about["config"], tensors) != about["sha256"]:',
        'if len(_digest(about["config"], tensors)) != len(about["sha256"]):',
        "test_io",
    ),
    "model files with a key twice": Fault(
        _LOADERS + "io.py",
        "if len(found) != len(pairs):",
        "if len(found) > len(pairs):",
        "test_io",
    ),
    "weights of a model file by units and inputs": Fault(
        _LOADERS + "io.py",
        'wanted[f"layers.{i}.weight"] = fan_in, layer.units',
        'wanted[f"layers.{i}.weight"] = layer.units, fan_in',
        "test_io",
    ),
    "an NPZ file that claims more than it holds": Fault(
        _LOADERS + "tables.py",
        'if need > about.file_size:',
        'if need < 0:',
        "test_tables",
    ),
    "weights of an ONNX file not turned": Fault(
        _LOADERS + "_onnx_reader.py",
        'if attributes.get("transB", 0):',
        'if attributes.get("transA", 0):',
        "test_onnx",
    ),
}  # fmt: skip
