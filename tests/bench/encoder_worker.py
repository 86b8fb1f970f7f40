"""One runtime of the sentence encoder, as a process: how long its forward pass takes, and what vectors it gives.

Runs in whatever environment has the runtime, so it imports numpy and that runtime alone. `FOLDER` holds the encoder as `float32.onnx`,
`int8.onnx` and `weights.npz`, and token ids by name in `ids.npz`; vectors go to `NAME.npy`, times to standard output. It must not know
what is compared.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Run = Callable[[Ids], Vectors]
_WARM_UP = 8
_CALIBRATION = 200


def onnx_runtime(folder: Path, precision: str, calibration: list[Ids]) -> Run:
    """ONNX Runtime, as the router runs it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / f"{precision}.onnx", options, providers=["CPUExecutionProvider"])
    return lambda ids: session.run(None, {"ids": ids[None], "mask": np.ones((1, len(ids)), np.int64)})[0][0]


def torch_eager(folder: Path, precision: str, calibration: list[Ids]) -> Run:
    """PyTorch, eagerly; int8 is its dynamic quantisation of the linear layers."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    weights = {name: torch.from_numpy(array) for name, array in np.load(folder / "weights.npz").items()}
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))
    width = weights["embeddings.LayerNorm.weight"].shape[0]
    heads, epsilon = (int(weights["heads"]), float(weights["epsilon"]))
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def linear(*names: str) -> Any:
        matrix = torch.cat([weights[f"{name}.weight"] for name in names])
        layer = torch.nn.Linear(matrix.shape[1], matrix.shape[0])
        layer.weight.data, layer.bias.data = matrix, torch.cat([weights[f"{name}.bias"] for name in names])
        if precision == "int8":
            import torch.ao.nn.quantized.dynamic as dynamic

            layer.qconfig = torch.ao.quantization.default_dynamic_qconfig
            return dynamic.Linear.from_float(layer)
        return layer.to(kind)

    def norm(values: Any, name: str) -> Any:
        scale, bias = weights[f"{name}.weight"].to(kind), weights[f"{name}.bias"].to(kind)
        return functional.layer_norm(values, (width,), scale, bias, epsilon)

    dense = []
    for number in range(layers):
        prefix = f"encoder.layer.{number}"
        own = [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")]
        others = ("attention.output.dense", "intermediate.dense", "output.dense")
        dense.append((prefix, linear(*own), *(linear(f"{prefix}.{name}") for name in others)))
    table = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]

    def run(ids: Ids) -> Vectors:
        with torch.inference_mode():
            tokens = len(ids)
            words = weights["embeddings.word_embeddings.weight"][torch.from_numpy(ids)]
            hidden = norm((words + table[:tokens])[None].to(kind), "embeddings.LayerNorm")
            for prefix, joint, output, wide, narrow in dense:
                query, key, value = joint(hidden).view(1, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
                mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
                hidden = norm(hidden + output(mixed.reshape(1, tokens, width)), f"{prefix}.attention.output.LayerNorm")
                hidden = norm(hidden + narrow(functional.gelu(wide(hidden))), f"{prefix}.output.LayerNorm")
            vector: Vectors = functional.normalize(hidden[0].float().sum(0), dim=0).numpy()
            return vector

    return run


def openvino(folder: Path, precision: str, calibration: list[Ids]) -> Run:
    """OpenVINO; int8 is calibrated on texts by NNCF (`-bfloat16`: the rest in bfloat16), int8-weights quantises activations as they come."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(folder / "float32.onnx")
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_PRECISION_HINT"] = "bf16" if precision.endswith("bfloat16") else "f32"
    if precision == "int8-weights":
        import nncf

        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = "1536"
    elif precision.startswith("int8"):
        import nncf

        texts = nncf.Dataset([[ids[None], np.ones((1, len(ids)), np.int64)] for ids in calibration[:_CALIBRATION]])
        model = nncf.quantize(model, texts, model_type=nncf.ModelType.TRANSFORMER, subset_size=_CALIBRATION)
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda ids: request.infer([ids[None], np.ones((1, len(ids)), np.int64)])[0][0].copy()


RUNTIMES: dict[str, Callable[[Path, str, list[Ids]], Run]] = {
    "onnxruntime": onnx_runtime,
    "torch": torch_eager,
    "openvino": openvino,
}


def main(folder: Path, runtime: str, precision: str) -> None:
    found = dict(np.load(folder / "ids.npz"))
    texts = [row[row >= 0] for row in found.pop("texts")]
    calibration = [row[row >= 0] for row in found.pop("calibration")]
    run = RUNTIMES[runtime](folder, precision, calibration)
    times = {}
    for name, rows in found.items():
        for ids in rows[:_WARM_UP]:
            run(ids)
        times[name] = [_milliseconds(run, ids) for ids in rows]
    target = folder / f"{runtime}-{precision}.npy"
    if not target.exists():
        np.save(target, np.stack([run(ids) for ids in texts]))
    json.dump(times, sys.stdout)


def _milliseconds(run: Run, ids: Ids) -> float:
    started = time.perf_counter()
    run(ids)
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
