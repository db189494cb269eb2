"""onnxruntime: predictions only, from a model of Gemm, Relu and Softmax."""

from __future__ import annotations

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers import Runner, Unsupported, predicted_loss
from benchmarks.shapes import Job, first_weights, samples


def versions() -> dict[str, str]:
    return {"onnxruntime": onnxruntime.__version__}


def _model(job: Job) -> bytes:
    nodes, weights = [], []
    name = "x"
    layers = first_weights(job)
    for i, (W, b) in enumerate(layers):
        weights += [numpy_helper.from_array(W, f"W{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [name, f"W{i}", f"b{i}"], [f"z{i}"]))
        last = i == len(layers) - 1
        name = "p" if last else f"a{i}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"z{i}"], [name]))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, job.sizes[0]])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, job.sizes[-1]])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


class Predict(Runner):
    def __init__(self, job: Job, threads: int):
        super().__init__(job, samples(job))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            _model(job), options, providers=["CPUExecutionProvider"]
        )

    def run(self, n: int) -> int:
        run, feed = self.session.run, {"x": self.X}
        for _ in range(n):
            run(None, feed)
        return n

    def check(self) -> float:
        (outputs,) = self.session.run(None, {"x": self.X})
        return predicted_loss(self.job, outputs, self.y)


def make(job: Job, threads: int) -> Runner:
    if job.kind != "predict":
        raise Unsupported("onnxruntime is measured in predict only")
    return Predict(job, threads)
