"""The sentence encoder as an ONNX graph: BERT, mean pooling and L2 norm, from plain weights, in float32 or with int8 products.

Pure: arrays in, bytes out. It must not know tokenizers, sessions or files. `onnx` is imported here and nowhere else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from foresail_router.features.weights import BertShape, Weights

_OPSET = 20
_IR_VERSION = 10
# Weights use 7 of 8 bits: without VNNI a CPU adds two products in 16 bits, which would saturate.
_INT8_RANGE = 63.0


def build_graph(weights: Weights, shape: BertShape, *, int8: bool) -> bytes:
    """Return the serialised graph: `ids` and `mask` (batch x tokens, int64) to `embedding` (batch x width, float32, unit length).

    With `int8` the products with weights run on integers, activations quantised per tensor at run time, weights per column.
    """
    builder = _GraphBuilder(weights, shape, int8=int8)
    return builder.build()


class _GraphBuilder:
    def __init__(self, weights: Weights, shape: BertShape, *, int8: bool) -> None:
        self._weights = weights
        self._shape = shape
        self._int8 = int8
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._count = 0

    def build(self) -> bytes:
        hidden = self._embed()
        penalty = self._attention_penalty()
        for layer in range(self._shape.layers):
            hidden = self._layer(hidden, penalty, f"encoder.layer.{layer}")
        self._pool(hidden)
        ints = TensorProto.INT64
        graph = helper.make_graph(
            self._nodes,
            "sentence-encoder",
            [helper.make_tensor_value_info(name, ints, ["batch", "tokens"]) for name in ("ids", "mask")],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", self._shape.width])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        # Each constant is copied as it is added: moving them one by one keeps them from being in memory three times.
        for name in list(self._constants):
            model.graph.initializer.append(self._constants.pop(name))
        return bytes(model.SerializeToString(deterministic=True))

    def _embed(self) -> str:
        words = self._op("Gather", self._weight("embeddings.word_embeddings.weight"), "ids")
        length = self._op("Slice", self._op("Shape", "ids"), self._ints([1]), self._ints([2]))
        start = self._ints([0])
        # Every token is of the first type, so its vector joins the positions.
        table = (
            self._weights["embeddings.position_embeddings.weight"]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
        )
        positions = self._op("Slice", self._constant("positions", table), start, length)
        return self._norm(self._op("Add", words, positions), "embeddings.LayerNorm")

    def _attention_penalty(self) -> str:
        mask = self._op("Cast", "mask", to=TensorProto.FLOAT)
        absent = self._op("Sub", self._floats(1.0), mask)
        return self._op("Unsqueeze", self._op("Mul", absent, self._floats(-1e9)), self._ints([1, 2]))

    def _layer(self, hidden: str, penalty: str, prefix: str) -> str:
        attention = f"{prefix}.attention"
        parts = [f"{attention}.self.{part}" for part in ("query", "key", "value")]
        matrix = np.concatenate([self._weights[f"{part}.weight"] for part in parts]).T
        bias = np.concatenate([self._weights[f"{part}.bias"] for part in parts])
        query, key, value = self._split_heads(self._product(hidden, matrix, bias, attention))
        scale = self._floats(float(self._shape.heads / self._shape.width) ** 0.5)
        scores = self._op("Add", self._op("Mul", self._op("MatMul", query, key), scale), penalty)
        mixed = self._op("MatMul", self._op("Softmax", scores, axis=-1), value)
        joined = self._op(
            "Reshape", self._op("Transpose", mixed, perm=[0, 2, 1, 3]), self._ints([0, 0, self._shape.width])
        )
        hidden = self._norm(
            self._op("Add", self._dense(joined, f"{attention}.output.dense"), hidden), f"{attention}.output.LayerNorm"
        )
        wide = self._op("Gelu", self._dense(hidden, f"{prefix}.intermediate.dense"))
        return self._norm(
            self._op("Add", self._dense(wide, f"{prefix}.output.dense"), hidden), f"{prefix}.output.LayerNorm"
        )

    def _split_heads(self, joint: str) -> tuple[str, str, str]:
        size = self._shape.width // self._shape.heads
        parts = self._split(joint, 3)
        shaped = [self._op("Reshape", part, self._ints([0, 0, self._shape.heads, size])) for part in parts]
        query, value = (self._op("Transpose", shaped[index], perm=[0, 2, 1, 3]) for index in (0, 2))
        return query, self._op("Transpose", shaped[1], perm=[0, 2, 3, 1]), value

    def _pool(self, hidden: str) -> None:
        mask = self._op("Unsqueeze", self._op("Cast", "mask", to=TensorProto.FLOAT), self._ints([2]))
        total = self._op("ReduceSum", self._op("Mul", hidden, mask), self._ints([1]), keepdims=0)
        norm = self._op("ReduceL2", total, self._ints([1]), keepdims=1)
        self._nodes.append(helper.make_node("Div", [total, norm], ["embedding"]))

    def _dense(self, value: str, name: str) -> str:
        return self._product(value, self._weights[f"{name}.weight"].T, self._weights[f"{name}.bias"], name)

    def _product(self, value: str, matrix: NDArray[np.float32], bias: NDArray[np.float32], name: str) -> str:
        offset = self._constant(f"{name}.bias", bias)
        if not self._int8:
            return self._op("Add", self._op("MatMul", value, self._constant(f"{name}.matrix", matrix)), offset)
        scale = (np.abs(matrix).max(axis=0) / _INT8_RANGE).astype(np.float32)
        rounded = np.rint(matrix / scale).astype(np.int8)
        quantised, value_scale, zero = (self._fresh() for _ in range(3))
        self._nodes.append(helper.make_node("DynamicQuantizeLinear", [value], [quantised, value_scale, zero]))
        sums = self._op("MatMulInteger", quantised, self._constant(f"{name}.int8", rounded), zero)
        factor = self._op("Mul", value_scale, self._constant(f"{name}.scale", scale))
        return self._op("Add", self._op("Mul", self._op("Cast", sums, to=TensorProto.FLOAT), factor), offset)

    def _norm(self, value: str, name: str) -> str:
        scale, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._op("LayerNormalization", value, scale, bias, axis=-1, epsilon=self._shape.epsilon)

    def _split(self, value: str, parts: int) -> list[str]:
        outputs = [self._fresh() for _ in range(parts)]
        self._nodes.append(helper.make_node("Split", [value], outputs, axis=-1, num_outputs=parts))
        return outputs

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = self._fresh()
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _fresh(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _floats(self, value: float) -> str:
        return self._constant(f"float {value!r}", np.asarray(value, dtype=np.float32))

    def _ints(self, values: list[int]) -> str:
        return self._constant(f"ints {values!r}", np.asarray(values, dtype=np.int64))

    def _constant(self, name: str, array: NDArray[np.generic]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name
