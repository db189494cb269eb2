"""`fastgd export`."""

from __future__ import annotations

import argparse

from ._command_train import checked_output, encoder_of
from .io import load

__all__ = ["export"]


def export(options: argparse.Namespace) -> int:
    """Write a network as an ONNX model, with the names of its inputs and classes."""
    out = checked_output(options.out, options.model)
    net = load(options.model)
    metadata, inputs = net.metadata, f"{net.n_inputs}"
    encoder = encoder_of(options.model, net)
    if encoder is not None:
        metadata = {**metadata, "feature_names": encoder.feature_names}
        if encoder.task == "classification":
            metadata["classes"] = encoder.classes
        inputs += ", as fastgd train has encoded them: see preprocessing in the metadata"
    net.to_onnx(out, input_dtype=options.input_dtype, metadata=metadata)
    activation = net.layers[-1].activation
    assert activation is not None
    print(f"{'inputs':<16}{inputs}")
    print(f"{'outputs':<16}{net.n_outputs}, {activation.name}")
    print(f"{'model':<16}{out}")
    return 0
