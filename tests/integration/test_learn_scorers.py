"""The scoring interface, once in this process and once in a second one over a Unix socket: the same promises of both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.learning import MODELS, make_prompts, write_trained
from tests.support.processes import running, wait_until

from foresail_api.errors import UserError
from foresail_router.engine.client import SocketScorer
from foresail_router.engine.interface import (
    ArtifactNotLoaded,
    DeadlineExceeded,
    Estimate,
    ModelNotInArtifact,
    ScoreRequest,
    ScorerOverloaded,
    ScoringError,
)
from foresail_router.engine.local import EngineSettings, LocalScorer
from foresail_router.engine.server import ScoringServer

PATIENT = 30.0
Loaded = tuple[LocalScorer | SocketScorer, str]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two artifacts by digest."""
    folder = tmp_path_factory.mktemp("artifacts")
    return {write_trained(folder / name, count): folder / name for name, count in (("first", 120), ("second", 90))}


def answers(path: Path) -> bool:
    """A killed process leaves its socket file behind, so that the file alone says nothing."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@contextlib.contextmanager
def scoring_process(path: Path, *artifacts: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "foresail_router.engine.process", "--socket", str(path), "--threads", "1"]
    for artifact in artifacts:
        command += ["--artifact", str(artifact)]
    log = path.with_suffix(".log")
    with running(command, log) as process:
        wait_until(lambda: answers(path), "scoring process", process=process, log=log)
        yield process


@pytest.fixture(scope="module")
def process_socket(artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("run") / "scorer.sock"
    with scoring_process(path, next(iter(artifacts.values()))):
        yield path


@pytest.fixture(params=["in process", "second process"])
async def loaded(
    request: pytest.FixtureRequest, artifacts: dict[str, Path], process_socket: Path
) -> AsyncIterator[Loaded]:
    """A scorer that holds the first artifact, and its digest."""
    digest, directory = next(iter(artifacts.items()))
    if request.param == "in process":
        scorer: LocalScorer | SocketScorer = LocalScorer(EngineSettings(threads=1))
        assert await scorer.load(directory, digest) == digest
    else:
        scorer = SocketScorer(process_socket)
    yield scorer, digest
    await scorer.close()


def ask(digest: str, *texts: str, models: tuple[str, ...] = MODELS, seconds: float = PATIENT) -> ScoreRequest:
    return ScoreRequest(digest, texts or ("Work out 12 + 13, please.",), models, seconds)


async def test_estimates_come_in_the_order_of_texts_and_models(loaded: Loaded) -> None:
    scorer, digest = loaded
    models = ("specialist", "generalist")
    texts = [prompt.prompt for prompt in make_prompts(6, seed=8)]
    result = await scorer.score(ask(digest, *texts, models=models))
    assert [[estimate.model for estimate in row] for row in result.estimates] == [list(models)] * 6
    for text, row in zip(texts, result.estimates, strict=True):
        better = "specialist" if text.startswith("Work") else "generalist"
        assert max(row, key=lambda estimate: estimate.quality).model == better
        for estimate in row:
            assert 0 <= estimate.quality <= 1
            assert estimate.output_tokens_p05 <= estimate.output_tokens <= estimate.output_tokens_p95
            assert estimate.output_tokens_p05 <= estimate.output_tokens_p50 <= estimate.output_tokens_p95
    alone = await scorer.score(ask(digest, texts[4], models=models))
    assert alone.estimates[0] == result.estimates[4]
    again = await scorer.score(ask(digest, texts[4], models=models))
    assert again == alone


async def test_both_give_the_same_numbers(artifacts: dict[str, Path], process_socket: Path) -> None:
    digest, directory = next(iter(artifacts.items()))
    local, remote = LocalScorer(EngineSettings(threads=1)), SocketScorer(process_socket)
    await local.load(directory)
    request = ask(digest, *(prompt.prompt for prompt in make_prompts(5, seed=9)))
    assert await local.score(request) == await remote.score(request)
    await local.close()
    await remote.close()


async def test_many_at_once_each_get_their_own(loaded: Loaded) -> None:
    scorer, digest = loaded
    texts = [prompt.prompt for prompt in make_prompts(40, seed=10)]
    results = await asyncio.gather(*(scorer.score(ask(digest, text)) for text in texts * 2))
    assert results[:40] == results[40:]
    singles = [await scorer.score(ask(digest, text)) for text in texts[:5]]
    assert results[:5] == singles


async def test_odd_texts_are_scored(loaded: Loaded) -> None:
    scorer, digest = loaded
    texts = ("", " ", "\0", "\ud800 half a pair", "🙂" * 10_000, "x" * 3_000_000)
    result = await scorer.score(ask(digest, *texts))
    assert len(result.estimates) == len(texts)
    assert (await scorer.score(replace(ask(digest), texts=()))).estimates == ()
    assert (await scorer.score(ask(digest, models=()))).estimates == ((),)


async def test_errors_are_of_their_own_kind(loaded: Loaded) -> None:
    scorer, digest = loaded
    with pytest.raises(ArtifactNotLoaded, match=r"no artifact sha256:0+ is loaded"):
        await scorer.score(ask("sha256:" + "0" * 64))
    with pytest.raises(ModelNotInArtifact, match="does not know the model 'stranger'"):
        await scorer.score(ask(digest, models=("specialist", "stranger")))
    for seconds in (0.0, -1.0):
        with pytest.raises(DeadlineExceeded):
            await scorer.score(ask(digest, seconds=seconds))


async def test_a_deadline_is_kept_under_load_and_the_scorer_recovers(loaded: Loaded) -> None:
    scorer, digest = loaded
    long = [f"{number} " + "word " * 400 for number in range(120)]
    flood = [asyncio.create_task(scorer.score(ask(digest, text))) for text in long]
    await asyncio.sleep(0.05)
    with pytest.raises(DeadlineExceeded):
        await scorer.score(ask(digest, "An urgent question, never asked before", seconds=0.02))
    # Bounded by the deadline and not by the queue, which is a hundred times as long.
    assert not all(task.done() for task in flood)
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert (await scorer.score(ask(digest, "And a patient one"))).estimates


async def test_artifacts_come_and_go(loaded: Loaded, artifacts: dict[str, Path]) -> None:
    scorer, first = loaded
    second = list(artifacts)[1]
    assert await scorer.load(artifacts[second], second) == second
    assert await scorer.load(artifacts[second], second) == second
    one, two = await asyncio.gather(scorer.score(ask(first)), scorer.score(ask(second)))
    assert one != two
    await scorer.unload(second)
    await scorer.unload("sha256:unknown")
    with pytest.raises(ArtifactNotLoaded):
        await scorer.score(ask(second))
    assert await scorer.score(ask(first)) == one


async def test_a_bad_artifact_is_named_and_harms_nothing(
    loaded: Loaded, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    scorer, first = loaded
    with pytest.raises(UserError, match="there is no such directory"):
        await scorer.load(tmp_path / "none")
    with pytest.raises(UserError, match="is pinned"):
        await scorer.load(artifacts[first], "sha256:" + "0" * 64)
    assert (await scorer.score(ask(first))).estimates


async def test_a_closed_scorer_refuses(loaded: Loaded) -> None:
    scorer, digest = loaded
    await scorer.close()
    with pytest.raises(ScoringError, match="closed"):
        await scorer.score(ask(digest))


async def test_a_cancelled_request_frees_its_place(artifacts: dict[str, Path]) -> None:
    digest, directory = next(iter(artifacts.items()))
    scorer = LocalScorer(EngineSettings(threads=1, max_queued=4))
    await scorer.load(directory)
    waiting = [asyncio.create_task(scorer.score(ask(digest, f"{number} " + "word " * 400))) for number in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(ScorerOverloaded, match="4 texts are waiting already"):
        await scorer.score(ask(digest, "one more"))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (await scorer.score(ask(digest, "one more"))).estimates
    await scorer.close()


async def test_closing_fails_what_waits(artifacts: dict[str, Path]) -> None:
    digest, directory = next(iter(artifacts.items()))
    scorer = LocalScorer(EngineSettings(threads=1))
    await scorer.load(directory)
    waiting = [asyncio.create_task(scorer.score(ask(digest, f"{number} " + "word " * 400))) for number in range(20)]
    await asyncio.sleep(0.01)
    await scorer.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert any(isinstance(result, ScoringError) for result in results)
    assert all(not isinstance(result, Exception) or type(result) is ScoringError for result in results)


class BrokenRouter:
    """A router whose strategy has a defect."""

    def __init__(self, router) -> None:  # type: ignore[no-untyped-def]
        self.manifest, self.encoder, self.digest = router.manifest, router.encoder, router.digest

    def predict(self, texts: object) -> None:
        raise RuntimeError(f"cannot predict {texts}")


async def test_a_defect_of_a_router_costs_its_requests_alone_and_quotes_no_text(artifacts: dict[str, Path]) -> None:
    scorer = LocalScorer(EngineSettings(threads=1))
    first, second = [await scorer.load(directory) for directory in artifacts.values()]
    scorer._routers[first] = BrokenRouter(scorer._routers[first])  # type: ignore[assignment]
    results = await asyncio.gather(
        scorer.score(ask(first, "a secret")), scorer.score(ask(second, "a secret")), return_exceptions=True
    )
    assert isinstance(results[0], ScoringError)
    assert str(results[0]) == "the router failed: RuntimeError"
    assert not isinstance(results[1], BaseException)
    await scorer.close()


async def test_the_client_survives_a_restart_of_the_process(artifacts: dict[str, Path], tmp_path: Path) -> None:
    digest, directory = next(iter(artifacts.items()))
    path = tmp_path / "scorer.sock"
    scorer = SocketScorer(path)
    with pytest.raises(ScoringError, match="the scoring process is not reachable"):
        await scorer.score(ask(digest))
    for _ in range(2):
        with scoring_process(path, directory) as process:
            assert (await scorer.score(ask(digest))).estimates[0][0].model == MODELS[0]
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            process.kill()
            process.wait(timeout=10)
        with pytest.raises(ScoringError, match="not reachable"):
            await scorer.score(ask(digest))
    await scorer.close()


async def test_a_process_that_hangs_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    path = tmp_path / "hangs.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        scorer = SocketScorer(path)
        with pytest.raises(DeadlineExceeded):
            await scorer.score(ask("sha256:x", seconds=0.05))
        await scorer.close()


@pytest.mark.parametrize(
    "answer", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x08" + b'{"id":1}', b"\x00\x00"]
)
async def test_a_process_that_answers_nonsense_is_an_error(tmp_path: Path, answer: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(babble, path=tmp_path / "babble.sock")
    scorer = SocketScorer(tmp_path / "babble.sock")
    with pytest.raises(ScoringError):
        await scorer.score(ask("sha256:x", seconds=5.0))
    await scorer.close()
    server.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x10\x00{",
    ],
)
async def test_the_server_ends_a_connection_that_speaks_otherwise_and_goes_on(
    process_socket: Path, artifacts: dict[str, Path], sent: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(process_socket))
    writer.write(sent)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    scorer = SocketScorer(process_socket)
    assert (await scorer.score(ask(next(iter(artifacts))))).estimates
    await scorer.close()


async def test_the_server_answers_bad_requests_by_number(process_socket: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(process_socket))
    for number, operation in enumerate(("score", "load", "dance"), start=1):
        body = json.dumps({"id": number, "operation": operation}).encode()
        writer.write(len(body).to_bytes(4, "big") + body)
    replies = {}
    for _ in range(3):
        size = int.from_bytes(await asyncio.wait_for(reader.readexactly(4), 10), "big")
        reply = json.loads(await reader.readexactly(size))
        replies[reply["id"]] = reply["error"]["reason"]
    assert replies == {1: "ScoringFailed", 2: "ScoringFailed", 3: "ScoringFailed"}
    writer.close()


async def test_a_socket_is_bound_only_where_that_harms_nobody(tmp_path: Path) -> None:
    scorer = LocalScorer(EngineSettings(threads=1))
    path = tmp_path / "scorer.sock"
    server = ScoringServer(scorer, path)
    await server.start()
    for taken, message in (
        (path, "another process serves there"),
        (tmp_path / "file", "exists and is not a socket"),
        (tmp_path / "no" / "folder", "cannot be bound: No such file or directory"),
        (tmp_path / ("x" * 120), "is longer than 100 bytes"),
    ):
        (tmp_path / "file").write_text("precious")
        with pytest.raises(UserError, match=message):
            await ScoringServer(scorer, taken).start()
    await server.close()
    assert not path.exists()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    again = ScoringServer(scorer, path)
    await again.start()
    await again.close()
    await scorer.close()


def test_the_process_says_why_it_cannot_start(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "foresail_router.engine.process",
        "--socket",
        tmp_path / "s",
        "--artifact",
        tmp_path / "none",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))
    assert ended.returncode == 2
    assert ended.stderr.strip().endswith("there is no such directory; train an artifact or correct the path")
    assert "Traceback" not in ended.stderr


def test_the_process_ends_cleanly_and_takes_its_socket_with_it(tmp_path: Path, artifacts: dict[str, Path]) -> None:
    path = tmp_path / "scorer.sock"
    with scoring_process(path, next(iter(artifacts.values()))) as process:
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert not path.exists()
    assert f"ready on {path}" in path.with_suffix(".log").read_text()


def test_an_estimate_is_a_plain_value() -> None:
    estimate = Estimate("m", 0.5, 0.1, 10.0, 1.0, 20.0, 9.0)
    assert replace(estimate, quality=0.6) != estimate
