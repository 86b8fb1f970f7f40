"""Sentence encoders that run: ONNX Runtime for speed, and the interface that every encoder has.

It must not know artifacts, nor cache anything: the same text always gives the same vector, whatever it is encoded with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from foresail_router.features.cpus import cpu_limit
from foresail_router.features.tokens import PromptTokenizer
from foresail_router.features.weights import MAX_TOKENS, EncoderSource, Precision, load_package

Device = Literal["cpu", "cuda"]
Vectors = NDArray[np.float32]
Progress = Callable[[int], object]


class Encoder(Protocol):
    """Turns texts into vectors of unit length."""

    @property
    def key(self) -> str:
        """What identifies the vectors that this encoder yields: weights, tokenizer and arithmetic."""
        ...

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Return one row per text; `progress` is told how many texts were done since its last call."""
        ...


class OnnxEncoder:
    """An encoder graph run by ONNX Runtime.

    On CPUs every text runs alone: batching gains nothing there, and one text's vector then never depends on its neighbours' lengths.
    """

    def __init__(
        self,
        graph: bytes,
        tokenizer: bytes,
        *,
        key: str,
        threads: int | None = None,
        device: Device = "cpu",
        opening_tokens: int | None = None,
    ) -> None:
        """Start a session; `threads` defaults to the CPUs that this process may use. Raises `ValueError` for an unusable graph.

        With `opening_tokens`, only so many tokens from the start of each text are read, the two special ones not counted.
        """
        self.key = key if opening_tokens is None else f"{key}/opening{opening_tokens}"
        max_tokens = MAX_TOKENS if opening_tokens is None else opening_tokens + 2
        self._tokenizer = PromptTokenizer(tokenizer, max_tokens=max_tokens, opening=opening_tokens is not None)
        self._batch = 1 if device == "cpu" else 64
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(graph, _options(threads or cpu_limit()), providers=providers)
        except Exception as error:  # the library raises classes that it does not export
            raise ValueError(f"not a usable encoder graph: {type(error).__name__}") from error

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Return one row of unit length per text."""
        rows = self._tokenizer.ids(texts)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        vectors: Vectors | None = None
        for start in range(0, len(order), self._batch):
            chosen = order[start : start + self._batch]
            part = self.run([rows[index] for index in chosen])
            if vectors is None:
                vectors = np.empty((len(rows), part.shape[1]), dtype=np.float32)
            vectors[chosen] = part
            if progress is not None:
                progress(len(chosen))
        return np.empty((0, 0), dtype=np.float32) if vectors is None else vectors

    def run(self, rows: Sequence[Sequence[int]]) -> Vectors:
        """Return one row of unit length per row of token ids: the forward pass alone."""
        longest = max(len(row) for row in rows)
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        output: Vectors = self._session.run(None, {"ids": ids, "mask": mask})[0]
        return output


def packaged_encoder(
    precision: Precision, *, threads: int | None = None, device: Device = "cpu", source: EncoderSource | None = None
) -> Encoder:
    """Return the encoder of the installed weights package; raise `UserError` when that is missing or damaged."""
    source = source or load_package()
    key = encoder_key(source.digest, precision)
    if precision == "reference":
        from foresail_router.features.reference import ReferenceEncoder

        return ReferenceEncoder(source, key=key)
    from foresail_router.features.onnx_graph import build_graph

    graph = build_graph(source.weights, source.shape, int8=precision == "int8")
    return OnnxEncoder(graph, source.tokenizer, key=key, threads=threads, device=device)


def answer_encoder(
    *, opening_tokens: int, threads: int | None = None, device: Device = "cpu", source: EncoderSource | None = None
) -> Encoder:
    """Return the packaged encoder at int8, reading the first `opening_tokens` tokens of each answer; raise as `packaged_encoder`."""
    from foresail_router.features.onnx_graph import build_graph

    source = source or load_package()
    graph = build_graph(source.weights, source.shape, int8=True)
    key = encoder_key(source.digest, "int8")
    return OnnxEncoder(graph, source.tokenizer, key=key, threads=threads, device=device, opening_tokens=opening_tokens)


def encoder_key(digest: str, precision: Precision) -> str:
    """Return the key of an encoder of these weights at this precision."""
    return f"{digest}/{precision}"


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread would burn the CPU that the proxy beside it needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _providers(device: Device) -> list[str]:
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    if provider not in onnxruntime.get_available_providers():
        raise ValueError(
            f"this ONNX Runtime has no {provider}; install onnxruntime-gpu in place of onnxruntime, or use the CPU"
        )
    return [provider]
