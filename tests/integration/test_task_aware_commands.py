"""`foresail describe`, `train --descriptions` and `tasks` as a user runs them: a real endpoint on a socket, the real encoder."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from tests.support.learning import MODELS, make_prompts, write_data, write_trained
from tests.support.upstream import Asked, Script, completion, hangs, running_upstream, unreachable_url, usage

from foresail_api.console import main
from foresail_router.data.descriptions import prompt_digest, read_descriptions

FORESAIL = str(Path(sys.executable).with_name("foresail"))
KINDS = {"Work": "An addition.", "I": "A travel question.", "Write": "A spelling task."}


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


async def run(*arguments: object) -> Done:
    process = await asyncio.create_subprocess_exec(FORESAIL, *map(str, arguments), stdout=-1, stderr=-1)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert b"Traceback" not in err, err.decode()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


async def describes(asked: Asked, request: web.Request) -> web.StreamResponse:
    """Describe the prompts of the test data, with more than one sentence."""
    prompt = asked.json["messages"][0]["content"].split("---\n")[1]
    text = f"{KINDS[prompt.split()[0]]}  And more\nthat nobody asked for."
    return web.Response(body=completion(text, usage(10, 4)), content_type="application/json")


def failing_first(count: int, status: int) -> Script:
    left = count

    async def script(asked: Asked, request: web.Request) -> web.StreamResponse:
        nonlocal left
        left -= 1
        return web.Response(status=status) if left >= 0 else await describes(asked, request)

    return script


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), 120)


async def test_every_text_is_described_once_in_one_sentence_and_a_second_run_asks_nothing(
    data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "descriptions.jsonl"
    (tmp_path / "key").write_text("secret-key\n")
    async with running_upstream(describes) as endpoint:
        call = [
            "describe",
            data,
            "--url",
            endpoint.url,
            "--model",
            "small",
            "-o",
            output,
            "--key-file",
            tmp_path / "key",
        ]
        first = await run(*call, "--limit", "7")
        assert (first.status, first.err) == (0, "")
        assert "7 texts described now, 0 missing" in first.out
        second = await run(*call)
        assert "113 texts described now, 0 missing" in second.out
        with output.open("a") as file:
            file.write('{"torn')
        third = await run(*call)
        assert "0 texts described now, 0 missing" in third.out
    assert len(endpoint.asked) == 120
    assert {asked.headers["Authorization"] for asked in endpoint.asked} == {"Bearer secret-key"}
    assert {asked.json["model"] for asked in endpoint.asked} == {"small"}
    found = read_descriptions(output)
    for prompt in make_prompts(120):
        assert found[prompt_digest(prompt.prompt)].description == KINDS[prompt.prompt.split()[0]]
    assert "secret-key" not in output.read_text()


async def test_a_failed_question_is_put_again_and_what_fails_for_good_is_named_with_a_remedy(
    data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "descriptions.jsonl"
    async with running_upstream(failing_first(2, 503)) as endpoint:
        call = ["describe", data, "--url", endpoint.url, "--model", "small", "--limit", "3", "-o", output]
        done = await run(*call, "--concurrency", "1")
    assert (done.status, len(endpoint.asked)) == (0, 5)
    async with running_upstream(failing_first(100, 401)) as endpoint:
        call = ["describe", data, "--url", endpoint.url, "--model", "small", "-o", tmp_path / "other.jsonl"]
        done = await run(*call, "--concurrency", "1")
    assert done.status == 1
    assert "status 401; check --key-file" in done.err
    assert "112 were not asked" in done.err
    assert len(endpoint.asked) == 8


async def test_endpoints_that_hang_or_are_not_there_end_in_a_remedy(data: Path, tmp_path: Path) -> None:
    async with running_upstream(hangs) as endpoint:
        call = ["describe", data, "--model", "m", "--limit", "1", "--attempts", "1", "-o", tmp_path / "d.jsonl"]
        hanging = await run(*call, "--url", endpoint.url, "--timeout", "1")
    assert "no answer within 1 s; raise --timeout" in hanging.err
    away = await run(*call, "--url", unreachable_url())
    assert (hanging.status, away.status) == (1, 1)
    assert "check that --url is right" in away.err


async def test_an_interrupted_run_keeps_what_it_has(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "descriptions.jsonl"
    served, third = 0, asyncio.Event()

    async def two_then_none(asked: Asked, request: web.Request) -> web.StreamResponse:
        nonlocal served
        served += 1
        if served == 3:
            third.set()
        return await (describes if served <= 2 else hangs)(asked, request)

    async with running_upstream(two_then_none) as endpoint:
        call = ["describe", data, "--url", endpoint.url, "--model", "m", "-o", output, "--concurrency", "1"]
        process = await asyncio.create_subprocess_exec(FORESAIL, *map(str, call), stdout=-1, stderr=-1)
        async with asyncio.timeout(60):
            await third.wait()
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
    assert process.returncode == 130
    assert b"2 descriptions were kept" in err
    assert len(read_descriptions(output)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "ftp://host/v1"], "--url is not of the form"),
        (["--url", "http://user:pass@host/v1"], "--url is not of the form"),
        (["--url", "http://host/v1", "--key-file", "absent"], "--key-file absent: cannot be read"),
        (["--url", "http://host/v1", "--source", "none"], "--source none"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_anything_is_asked(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status = main(["describe", str(data), "--model", "m", "-o", str(tmp_path / "d.jsonl"), *arguments])
    error = capfd.readouterr().err
    assert status == 2
    assert message in error
    assert "user:pass" not in error


def test_train_on_descriptions_and_print_the_tasks(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = [
        json.dumps(
            {
                "prompt_sha256": prompt_digest(prompt.prompt),
                "id": prompt.id,
                "model": "m",
                "description": KINDS[prompt.prompt.split()[0]],
            }
        )
        for prompt in make_prompts(120)
    ]
    (tmp_path / "descriptions.jsonl").write_text("\n".join(lines) + "\n")
    artifact = tmp_path / "router"
    common = ["--threads", "1", "--cache-dir", str(tmp_path / "cache")]
    train = ["train", str(data), "--strategy", "task-aware", "-o", str(artifact), *common]
    assert main([*train, "--descriptions", str(tmp_path / "descriptions.jsonl")]) == 0
    assert "120 of 120 prompts are described" in capfd.readouterr().err
    assert main(["tasks", str(artifact)]) == 0
    table = capfd.readouterr().out
    assert "purity against the known labels" in table.splitlines()[0]
    assert main(["tasks", str(artifact), "--json", "--data", str(data), *common]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["purity"] > 0.9
    sizes = [task["prompts"] for task in report["tasks"]]
    assert sizes == sorted(sizes, reverse=True)
    for task in report["tasks"]:
        assert task["name"] in table
        assert {entry["model"] for entry in task["candidates"]} <= set(MODELS)
        assert task["assigned"]["prompts"] > 0
        assert task["assigned"]["purity"] > 0.9
    assert report["assigned_prompts"] + report["abstained"] == 120
    assert main(["tasks", str(artifact), "--limit", "1", "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["tasks"]) == 1


def test_a_fused_router_shows_its_tasks_with_what_models_score_on_them(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = tmp_path / "router"
    common = ["--threads", "1", "--cache-dir", str(tmp_path / "cache")]
    assert main(["train", str(data), "--strategy", "fused", "-o", str(artifact), *common]) == 0
    capfd.readouterr()
    assert main(["tasks", str(artifact), "--json", "--data", str(data), *common]) == 0
    report = json.loads(capfd.readouterr().out)
    assert len(report["tasks"]) >= 3
    assert report["purity"] > 0.9
    best = {"sum": "specialist", "travel": "generalist", "reverse": "generalist"}
    for task in report["tasks"]:
        first, *others = task["candidates"]
        assert first["model"] == best[task["labels"][0]["label"]]
        assert 0.5 < first["score"] <= 1
        assert all(first["score"] >= other["score"] >= 0 for other in others)
        assert task["alpha"] is None
        assert task["assigned"]["purity"] > 0.9
    assert (report["assigned_prompts"], report["abstained"]) == (120, 0)
    assert main(["tasks", str(artifact)]) == 0
    table = capfd.readouterr().out
    assert all(task["name"] in table for task in report["tasks"])


def test_descriptions_that_cannot_be_used_are_refused(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "descriptions.jsonl"
    row = {"prompt_sha256": "0" * 64, "id": "x", "model": "m", "description": "Something."}
    path.write_text(json.dumps(row) + "\n")
    call = ["train", str(data), "-o", str(tmp_path / "router"), "--descriptions", str(path), "--threads", "1"]
    assert main([*call, "--strategy", "knn"]) == 2
    assert "learns nothing from them" in capfd.readouterr().err
    assert main([*call, "--strategy", "task-aware"]) == 2
    assert "describes no prompt" in capfd.readouterr().err
    path.write_text(2 * (json.dumps(row) + "\n"))
    assert main([*call, "--strategy", "task-aware"]) == 2
    assert "line 2" in capfd.readouterr().err


def test_an_artifact_without_tasks_is_named_as_such(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_trained(tmp_path / "router", 60)
    assert main(["tasks", str(tmp_path / "router")]) == 2
    assert (
        "'knn' discovers no tasks; train one with --strategy fused or --strategy task-aware" in capfd.readouterr().err
    )
