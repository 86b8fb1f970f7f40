"""The scoring engine in this process: loaded artifacts, one worker thread, batches, a cache, deadlines.

Owns when and in which thread a router runs. It must not know requests, prices, policies or sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foresail_router.artifact.router import Router, open_encoder, open_router
from foresail_router.artifact.store import read_artifact
from foresail_router.engine.interface import (
    ArtifactNotLoaded,
    DeadlineExceeded,
    Estimate,
    ModelNotInArtifact,
    ScoreRequest,
    ScoreResult,
    ScoringError,
)
from foresail_router.engine.lru import LruCache
from foresail_router.engine.queue import BatchQueue, Entry, Row, expected_tokens
from foresail_router.features.encoder import Encoder
from foresail_router.features.text import readable, text_key

LOAD_SECONDS = 120.0
_CLOSE_SECONDS = 10.0
_WARM_UP = ("Hello", "What is the capital of France, and since when? " * 6, "word " * 400)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """`threads` of the encoder (None: the CPUs that may be used), texts that may wait, tokens of one batch, texts in the cache.

    A batch is small: on CPUs texts run one after the other anyway, and its results come together.
    """

    threads: int | None = None
    max_queued: int = 512
    max_batch_tokens: int = 128
    cache_entries: int = 10_000


class LocalScorer:
    """A `Scorer` that runs routers on one worker thread. Artifacts come and go while it scores; `close` it at the end."""

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self._settings = settings or EngineSettings()
        self._routers: dict[str, Router] = {}
        self._cache: LruCache[tuple[str, bytes], Row] = LruCache(self._settings.cache_entries)
        self._queue = BatchQueue(
            max_entries=self._settings.max_queued, max_batch_tokens=self._settings.max_batch_tokens
        )
        self._wake = asyncio.Event()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="foresail-scorer")
        self._batching: asyncio.Task[None] | None = None
        self._loading = asyncio.Lock()
        self._closed = False

    async def load(self, directory: Path, digest: str | None = None) -> str:
        """Verify, load and warm up an artifact, pinned by digest if one is given; return its digest.

        Scoring goes on meanwhile. Raises `UserError` for a bad artifact, `ScoringError` when it takes too long or the scorer is closed.
        """
        self._check_open()
        try:
            async with asyncio.timeout(LOAD_SECONDS), self._loading:
                if digest is not None and digest in self._routers:
                    return digest
                encoders = {router.encoder.key: router.encoder for router in self._routers.values()}
                router = await asyncio.to_thread(_open_warm, directory, digest, encoders, self._settings.threads)
        except TimeoutError as error:
            raise ScoringError(f"the artifact was not loaded within {LOAD_SECONDS:.0f} s") from error
        self._check_open()
        self._routers[router.digest] = router
        return router.digest

    async def unload(self, digest: str) -> None:
        """Forget an artifact; what waits for it fails with `ArtifactNotLoaded`. Unknown digests are passed over."""
        self._routers.pop(digest, None)

    @property
    def loaded(self) -> tuple[str, ...]:
        """The digests of the artifacts that can be asked."""
        return tuple(self._routers)

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Return the estimates, or raise a `ScoringError` no later than the request's deadline."""
        self._check_open()
        columns = self._columns(request)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.deadline_seconds
        if request.deadline_seconds <= 0:
            raise DeadlineExceeded("the deadline has passed already")
        texts = [readable(text) for text in request.texts]
        keys = [text_key(text) for text in texts]
        rows = [self._cache.get((request.artifact_digest, key)) for key in keys]
        waiting = {
            index: Entry(
                request.artifact_digest,
                keys[index],
                texts[index],
                expected_tokens(texts[index]),
                deadline,
                loop.create_future(),
            )
            for index, row in enumerate(rows)
            if row is None
        }
        if waiting:
            self._queue.admit(list(waiting.values()), loop.time())
            self._start()
            await _all_done([entry.future for entry in waiting.values()], deadline)
        found = [waiting[index].future.result() if row is None else row for index, row in enumerate(rows)]
        return ScoreResult(tuple(_estimates(row, columns, request.models) for row in found))

    async def close(self) -> None:
        """Fail what waits, let the batch that runs end, and stop the worker."""
        self._closed = True
        self._queue.fail_all(ScoringError("the scorer is closed"))
        if self._batching is not None:
            self._batching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._batching
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.to_thread(self._worker.shutdown)
        self._routers.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise ScoringError("the scorer is closed")

    def _columns(self, request: ScoreRequest) -> list[int]:
        router = self._routers.get(request.artifact_digest)
        if router is None:
            raise ArtifactNotLoaded(f"no artifact {request.artifact_digest} is loaded")
        known = {model: column for column, model in enumerate(router.manifest.model_names)}
        for model in request.models:
            if model not in known:
                raise ModelNotInArtifact(f"the artifact does not know the model {model!r}")
        return [known[model] for model in request.models]

    def _start(self) -> None:
        if self._batching is None or self._batching.done():
            self._batching = asyncio.create_task(self._run(), name="foresail-scorer-batches")
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._queue.next_batch(loop.time()):
                started = loop.time()
                await self._run_batch(batch)
                self._queue.finished(loop.time() - started)

    async def _run_batch(self, batch: list[Entry]) -> None:
        for digest in dict.fromkeys(entry.digest for entry in batch):
            entries = [entry for entry in batch if entry.digest == digest]
            router = self._routers.get(digest)
            if router is None:
                _fail(entries, ArtifactNotLoaded(f"artifact {digest} was unloaded"))
                continue
            texts = {entry.key: entry.text for entry in entries}
            try:
                rows = await asyncio.get_running_loop().run_in_executor(
                    self._worker, _predict, router, list(texts.values())
                )
            except asyncio.CancelledError:
                _fail(entries, ScoringError("the scorer is closed"))
                raise
            except Exception as error:
                # Whatever went wrong inside a router must not stop the worker; the message may hold text, so only its class is told.
                _fail(entries, ScoringError(f"the router failed: {type(error).__name__}"))
                continue
            for key, row in zip(texts, rows, strict=True):
                self._cache.put((digest, key), row)
            for entry in entries:
                if not entry.future.done():
                    entry.future.set_result(rows[list(texts).index(entry.key)])


async def _all_done(futures: list[asyncio.Future[Row]], deadline: float) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            # One after the other: gathering them would cost each single text another turn of the event loop.
            for future in futures:
                await future
    except TimeoutError as error:
        raise DeadlineExceeded("the estimates did not come in time") from error
    finally:
        for future in futures:
            if future.done() and not future.cancelled():
                # Seen, so that a failure of two texts of one request is not reported as forgotten.
                future.exception()
            future.cancel()


def _open_warm(directory: Path, digest: str | None, encoders: dict[str, Encoder], threads: int | None) -> Router:
    artifact = read_artifact(directory, expected_digest=digest)
    facts = artifact.manifest.encoder
    shared = encoders.get(f"{facts.digest}/{facts.precision}")
    router = open_router(artifact, encoder=shared or open_encoder(artifact, threads=threads))
    router.predict(_WARM_UP)
    return router


def _predict(router: Router, texts: Sequence[str]) -> list[Row]:
    predictions = router.predict(texts)
    measures = (
        predictions.quality,
        predictions.quality_std,
        predictions.output_tokens,
        predictions.output_tokens_p05,
        predictions.output_tokens_p95,
        predictions.output_tokens_p50,
    )
    return list(np.stack(measures, axis=1))


def _estimates(row: Row, columns: list[int], models: tuple[str, ...]) -> tuple[Estimate, ...]:
    return tuple(Estimate(model, *values) for model, values in zip(models, row[:, columns].T.tolist(), strict=True))


def _fail(entries: list[Entry], error: Exception) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(error)
