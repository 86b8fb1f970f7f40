"""`foresail collect` as a user runs it, against upstreams on sockets: outcomes, costs, resuming, retries, failures with a remedy."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from tests.support.upstream import (
    Asked,
    Script,
    answers,
    completion,
    hangs,
    running_upstream,
    says,
    unreachable_url,
    usage,
)

FORESAIL = str(Path(sys.executable).with_name("foresail"))
PROMPTS = [
    {"id": f"p{number}", "prompt": f"What is {number} + 1?", "grader": "numeric", "reference": str(number + 1)}
    for number in range(6)
]


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


async def collect(folder: Path, *arguments: str | Path) -> Done:
    """Run the command to its end."""
    process = await asyncio.create_subprocess_exec(*command(folder, *arguments), stdout=-1, stderr=-1)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert b"Traceback" not in err, err.decode()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


def command(folder: Path, *arguments: str | Path) -> list[str]:
    """The command line; prompts, pool and output directory lie in `folder`."""
    common = [FORESAIL, "collect", folder / "prompts.jsonl", "-f", folder / "pool.yaml", "--out", folder / "out"]
    return [str(part) for part in (*common, *arguments)]


def write(
    folder: Path, urls: dict[str, str], *, prompts: list[dict[str, str]] | None = None, auth: object = None
) -> None:
    """Write prompts and a pool with one model per URL."""
    rows = PROMPTS if prompts is None else prompts
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = [
        {
            "name": name,
            "upstreams": [
                {"name": "only", "url": url, "model": f"{name}-upstream", **({"auth": auth} if auth else {})}
            ],
            "price": {"inputPerMillionTokens": "2", "outputPerMillionTokens": "10", "perRequest": "0.001"},
            "contextWindowTokens": 4096,
            "maxOutputTokens": 256,
            "defaultMaxOutputTokens": 32,
        }
        for name, url in urls.items()
    ]
    pool = {
        "apiVersion": "foresail.dev/v1alpha1",
        "kind": "ModelPool",
        "metadata": {"name": "pool"},
        "spec": {"models": models},
    }
    (folder / "pool.yaml").write_text(yaml.safe_dump(pool))


def outcomes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "outcomes.jsonl").read_text().splitlines()]


async def adds(asked: Asked, request: web.Request) -> web.StreamResponse:
    """Answer the sums of `PROMPTS` rightly."""
    number = int(asked.json["messages"][0]["content"].split()[2])
    return web.Response(body=completion(f"That is {number + 1}.", usage(10, 4)), content_type="application/json")


def failing_first(count: int, status: int, **headers: str) -> Script:
    """Refuse that many requests, then add."""
    left = count

    async def script(asked: Asked, request: web.Request) -> web.StreamResponse:
        nonlocal left
        left -= 1
        return web.Response(status=status, headers=headers) if left >= 0 else await adds(asked, request)

    return script


async def test_every_model_is_asked_every_prompt_and_graded_and_priced(tmp_path: Path) -> None:
    async with running_upstream(adds) as good, running_upstream(answers("No idea.")) as poor:
        write(tmp_path, {"good": good.url, "poor": poor.url})
        done = await collect(tmp_path)
    assert (done.status, done.err) == (0, "")
    assert "6 prompts x 2 models: 12 answered now" in done.out
    rows = outcomes(tmp_path)
    assert [(row["id"], row["model"]) for row in rows] == [(p["id"], m) for p in PROMPTS for m in ("good", "poor")]
    assert {row["model"]: row["score"] for row in rows} == {"good": 1.0, "poor": 0.0}
    assert rows[0] == {
        "id": "p0",
        "model": "good",
        "score": 1.0,
        "input_tokens": 10,
        "output_tokens": 4,
        "cost_usd": 0.00106,
        "answer": "That is 1.",
    }
    sent = good.asked[0].json
    assert sent == {"model": "good-upstream", "messages": sent["messages"], "max_tokens": 32}
    assert "Authorization" not in good.asked[0].headers


async def test_a_second_run_asks_nothing_and_a_damaged_end_is_asked_again(tmp_path: Path) -> None:
    async with running_upstream(adds) as upstream:
        write(tmp_path, {"good": upstream.url})
        await collect(tmp_path)
        whole = (tmp_path / "out" / "outcomes.jsonl").read_bytes()
        again = await collect(tmp_path)
        assert "0 answered now for $0.000000, 6 were there before" in again.out
        assert len(upstream.asked) == 6
        (tmp_path / "out" / "outcomes.jsonl").write_bytes(whole[:-30])
        repaired = await collect(tmp_path)
        assert "1 answered now" in repaired.out
    assert len(upstream.asked) == 7
    assert (tmp_path / "out" / "outcomes.jsonl").read_bytes() == whole


async def test_an_interrupted_run_keeps_its_answers_and_goes_on_where_it_was(tmp_path: Path) -> None:
    served = 0

    async def slow_after_three(asked: Asked, request: web.Request) -> web.StreamResponse:
        nonlocal served
        served += 1
        return await hangs(asked, request) if served == 4 else await adds(asked, request)

    async with running_upstream(slow_after_three) as upstream:
        write(tmp_path, {"good": upstream.url})
        process = await asyncio.create_subprocess_exec(*command(tmp_path, "--concurrency", "1"), stdout=-1, stderr=-1)
        async with asyncio.timeout(60):
            while len(upstream.asked) < 4:  # noqa: ASYNC110  what is waited for happens in another process
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
        assert process.returncode == 130
        assert b"3 answers were kept. Run the same command again" in err
        assert b"Traceback" not in err
        assert len(outcomes(tmp_path)) == 3
        done = await collect(tmp_path)
    assert "3 answered now" in done.out
    assert len(upstream.asked) == 7


async def test_a_passing_failure_is_tried_again(tmp_path: Path) -> None:
    async with running_upstream(failing_first(2, 429, **{"Retry-After": "0"})) as upstream:
        write(tmp_path, {"good": upstream.url})
        done = await collect(tmp_path, "--concurrency", "1")
    assert done.status == 0
    assert len(outcomes(tmp_path)) == 6
    assert len(upstream.asked) == 8


async def test_failures_are_told_with_a_remedy_and_never_written_as_wrong(tmp_path: Path) -> None:
    async with (
        running_upstream(adds) as good,
        running_upstream(says(401, b'{"error": {"message": "bad key sk-secret"}}')) as locked,
        running_upstream(says(200, b"<html>")) as page,
        running_upstream(hangs) as silent,
    ):
        urls = {
            "good": good.url,
            "locked": locked.url,
            "page": page.url,
            "silent": silent.url,
            "gone": unreachable_url(),
        }
        write(tmp_path, urls)
        done = await collect(tmp_path, "--attempts", "1", "--timeout", "1")
    assert done.status == 1
    assert {row["model"] for row in outcomes(tmp_path)} == {"good"}
    assert "24 missing" in done.out
    assert "locked: 6 failed: status 401; check the model's `auth`" in done.err
    assert "page: 6 failed: the answer is not a chat completion" in done.err
    assert "silent: 6 failed: " in done.err
    assert "raise --timeout" in done.err
    assert "gone: 6 failed: no connection" in done.err
    assert "sk-secret" not in done.err
    assert len(locked.asked) == 6


async def test_a_model_that_always_fails_is_given_up(tmp_path: Path) -> None:
    prompts = [PROMPTS[0] | {"id": f"p{number}", "prompt": f"What is {number} + 1?"} for number in range(40)]
    async with running_upstream(says(404, b"")) as upstream:
        write(tmp_path, {"lost": upstream.url}, prompts=prompts)
        done = await collect(tmp_path, "--concurrency", "2")
    assert done.status == 1
    assert len(upstream.asked) < 12
    assert "were not asked, because one question after another failed" in done.err
    assert "check `url`" in done.err


async def test_repetitions_are_limited_over_the_whole_collection(tmp_path: Path) -> None:
    prompts = [PROMPTS[0] | {"id": f"p{number}", "prompt": f"What is {number} + 1?"} for number in range(7)]
    async with running_upstream(says(503, b"", **{"Retry-After": "0"})) as upstream:
        write(tmp_path, {"down": upstream.url}, prompts=prompts)
        done = await collect(tmp_path, "--concurrency", "7", "--attempts", "4")
    assert done.status == 1
    # 7 questions and at most 20 repetitions, where 4 attempts each would have made 28 requests.
    assert 7 <= len(upstream.asked) <= 27


async def test_credentials_come_from_secret_manifests_and_directories_as_when_serving(tmp_path: Path) -> None:
    auth = {"secretRef": {"name": "keys", "key": "token"}}
    async with running_upstream(adds) as upstream:
        write(tmp_path, {"good": upstream.url}, auth=auth)
        without = await collect(tmp_path)
        assert without.status == 2
        assert "needs the Secret keys/token" in without.err
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"token": "k-1"}}
        (tmp_path / "secret.yaml").write_text(yaml.safe_dump(secret))
        assert (await collect(tmp_path, "-f", tmp_path / "secret.yaml")).status == 0
        assert upstream.asked[-1].headers["Authorization"] == "Bearer k-1"
        (tmp_path / "secrets" / "keys").mkdir(parents=True)
        (tmp_path / "secrets" / "keys" / "token").write_text("k-2\n")
        (tmp_path / "out" / "outcomes.jsonl").unlink()
        assert (await collect(tmp_path, "--secrets", tmp_path / "secrets")).status == 0
    assert upstream.asked[-1].headers["Authorization"] == "Bearer k-2"


async def test_an_answer_without_usage_has_no_cost_but_a_score(tmp_path: Path) -> None:
    async with running_upstream(says(200, completion("It is 1.", None))) as upstream:
        write(tmp_path, {"good": upstream.url}, prompts=PROMPTS[:1])
        done = await collect(tmp_path)
    assert "for at least $0" in done.out
    assert outcomes(tmp_path) == [{"id": "p0", "model": "good", "score": 1.0, "answer": "It is 1."}]


async def test_some_models_of_a_pool_can_be_asked_first_and_the_others_later(tmp_path: Path) -> None:
    async with running_upstream(adds) as upstream:
        write(tmp_path, {"one": upstream.url, "two": upstream.url})
        await collect(tmp_path, "--models", "two")
        assert {row["model"] for row in outcomes(tmp_path)} == {"two"}
        await collect(tmp_path)
    assert [row["model"] for row in outcomes(tmp_path)] == ["one", "two"] * 6


async def test_what_cannot_be_collected_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    async with running_upstream(adds) as upstream:
        write(tmp_path, {"good": upstream.url}, prompts=[{"id": "a", "prompt": "Hello?"}])
        ungraded = await collect(tmp_path)
        assert ungraded.status == 2
        assert "prompt 'a', column \"grader\": is missing" in ungraded.err
        write(tmp_path, {"good": upstream.url}, prompts=[PROMPTS[0] | {"reference": "many"}])
        unusable = await collect(tmp_path)
        assert "'many' is not one number" in unusable.err
        write(tmp_path, {"good": upstream.url})
        unknown = await collect(tmp_path, "--models", "better")
        assert "better is not in ModelPool 'pool'; it has good" in unknown.err
        assert not upstream.asked
        await collect(tmp_path)
        write(tmp_path, {"good": upstream.url}, prompts=[PROMPTS[0] | {"prompt": "What is 7 + 1?"}])
        changed = await collect(tmp_path)
        assert changed.status == 2
        assert "prompt 'p0' was collected with another text" in changed.err
    assert len(upstream.asked) == 6


async def test_two_collections_into_one_directory_do_not_mix(tmp_path: Path) -> None:
    async with running_upstream(hangs) as upstream:
        write(tmp_path, {"good": upstream.url})
        process = await asyncio.create_subprocess_exec(*command(tmp_path), stdout=-1, stderr=-1)
        try:
            async with asyncio.timeout(30):
                await upstream.arrived.wait()
            second = await collect(tmp_path)
        finally:
            process.kill()
            await process.communicate()
    assert second.status == 2
    assert "is being written by another process" in second.err
