"""Write the seeds of the fuzz targets: python tests/fuzz/make_seeds.py

They are in the repository; this is for a target that takes more than it did. Files of pyarrow, onnx
and zlib differ in some bytes from version to version, which does not matter to a fuzzer.
"""

import gzip
import io
import struct
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fastgd
from fastgd import activations, schedules, tables
from fastgd.preprocess import Preprocessor

SEEDS = Path(__file__).parent / "seeds"
rng = np.random.default_rng(0)


def model_files(folder):
    X = rng.normal(size=(8, 2))
    y, labels = X[:, :1] ** 2, np.arange(8) % 3

    def plain():
        return fastgd.Network([fastgd.Dense(1)], "squared_error", fastgd.SGD(0.1, 0.9), 2)

    def deep():
        layers = [
            fastgd.Dense(3, activations.LeakyReLU(0.2), l1=1e-3, dropout=0.25),
            fastgd.Dense(2, "gelu", bias=False, l2=1e-3),
            fastgd.Dense(3),
        ]
        return fastgd.Network(
            layers, "cross_entropy", fastgd.Adam(schedules.WarmUp(schedules.Cosine(0.1, 9), 2)), 2,
            "float64", input_scale=0.5,
        )  # fmt: skip

    def plateau():
        lr = schedules.ReduceOnPlateau(0.1, patience=1)
        return fastgd.Network(
            [fastgd.Dense(1, "tanh")], fastgd.Huber(0.5), fastgd.RMSprop(lr, momentum=0.5), 2
        )

    for name, make in (("plain", plain), ("deep", deep), ("plateau", plateau)):
        net = make()
        target = labels if name == "deep" else y
        path = folder / name
        callbacks = [
            fastgd.EarlyStopping("loss"), fastgd.GradientFlow(warn=False), fastgd.Checkpoint(path)
        ]  # fmt: skip
        net.fit(X, target, epochs=2, batch_size=4, callbacks=callbacks, verbose=0)
    net = plain()
    net.fit(X, y, verbose=0)
    table = tables.Table("a", {"n": X[:, 0], "t": np.array(list("aabbccdd"), object), "y": y[:, 0]})
    net.metadata = {"preprocessing": Preprocessor.fit(table, target="y").config}
    net.save(folder / "preprocessing")
    net.save(folder / "weights", include_optimizer=False, metadata={})


def idx(dtype_code, array):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, dtype_code, array.ndim, *array.shape)
    return head + array.tobytes()


def idx_files(folder):
    made = {
        "bytes": idx(8, np.arange(12, dtype=np.uint8).reshape(2, 3, 2)),
        "labels": idx(8, np.arange(5, dtype=np.uint8)),
        "floats": idx(0x0D, np.ones((2, 2), ">f4")),
        "doubles": idx(0x0E, np.ones((1, 1, 1, 1), ">f8")),
        "shorts": idx(0x0B, np.ones((3, 1), ">i2")),
        "none": idx(0x0C, np.ones((0, 4), ">i4")),
    }
    made["bytes.gz"] = gzip.compress(made["bytes"], mtime=0)
    for name, content in made.items():
        (folder / name).write_bytes(content)


def table_files(folder):
    csv = "size,colour,sold,price\n1.5,red,true,10\n2,blue,false,20\n,red,true,15\n4,blue,,11\n"
    made = {
        "comma.csv": csv.encode(),
        "semicolon.csv": b"a;b\n1,5;x\n2,5;y\n3;x\n4;y\n",
        "tab.csv": '\ufeffä\tb\r\n1\tx\r\n2\t"a\nb"\r\n'.encode(),
        "codes.csv": b"code,y\n007,1\n008,0\nNA,1\n?,0\n",
        "csv.gz": gzip.compress(csv.encode(), mtime=0),
        "idx": idx(8, np.arange(12, dtype=np.uint8).reshape(3, 2, 2)),
    }
    for name, arrays in (
        ("npz", {"X": np.ones((3, 2), np.float32), "y": np.arange(3)}),
        ("text.npz", {"data": np.eye(3), "target": np.array(["a", "b", "a"])}),
    ):
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        made[name] = file.getvalue()
    table = pa.table(
        {
            "a": pa.array([1.5, None, 3.0]),
            "b": pa.array(["x", "y", None]).dictionary_encode(),
            "c": pa.array([True, False, None]),
            "d": pa.array([0, 1, 2], pa.timestamp("us")),
        }
    )
    for compression in ("none", "snappy"):
        file = io.BytesIO()
        pq.write_table(table, file, compression=compression, store_schema=False)
        made[f"{compression}.parquet"] = file.getvalue()
    for name, content in made.items():
        (folder / name).write_bytes(content)


def onnx_files(folder):
    sizes = {"relu": "cross_entropy", "gelu": "squared_error", "mish": "log_loss"}
    for activation, loss in sizes.items():
        layers = [fastgd.Dense(3, activation), fastgd.Dense(2, bias=activation != "mish")]
        net = fastgd.Network(layers, loss, n_inputs=2, input_scale=0.25)
        net.to_onnx(folder / f"{activation}.onnx", metadata={"a": [1, "x"]})
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, *shape):
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Sub", ["flat", "mean"], ["centred"]),
        helper.make_node("MatMul", ["centred", "W"], ["z"]),
        helper.make_node("Add", ["z", "b"], ["zb"]),
        helper.make_node("Sigmoid", ["zb"], ["s"]),
        helper.make_node("Mul", ["zb", "s"], ["a"]),
        helper.make_node(
            "BatchNormalization", ["a", "gamma", "beta", "mu", "var"], ["n"], epsilon=1e-5
        ),
        helper.make_node("Gemm", ["n", "V", "c"], ["out"], transB=1, alpha=2.0),
        helper.make_node("Softmax", ["out"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["label"], axis=1),
    ]
    shapes = {"mean": (3,), "W": (3, 2), "b": (2,), "gamma": (2,), "beta": (2,), "mu": (2,),
              "V": (2, 2), "c": (2,)}  # fmt: skip
    weights = [constant(name, *shape) for name, shape in shapes.items()]
    weights.append(numpy_helper.from_array(np.array([1, 2], np.float32), "var"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [
            helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n", 1]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    (folder / "of-others.onnx").write_bytes(model.SerializeToString())


def arguments(folder):
    for i in range(40):
        made = np.random.default_rng(i).integers(0, 256, 40 + 5 * i, np.uint8)
        (folder / f"{i:02}").write_bytes(made.tobytes())


def networks(folder):
    for i in range(40):
        made = np.random.default_rng(1000 + i).integers(0, 256, 60 + 20 * i, np.uint8)
        (folder / f"{i:02}").write_bytes(made.tobytes())


def main():
    for name, make in {
        "model_file": model_files,
        "idx_file": idx_files,
        "table_file": table_files,
        "onnx_file": onnx_files,
        "arguments": arguments,
        "net": networks,
    }.items():
        folder = SEEDS / name
        with tempfile.TemporaryDirectory() as scratch:
            make(Path(scratch))
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(Path(scratch).iterdir()):
                (folder / path.name).write_bytes(path.read_bytes())
                print(f"{name}/{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
