"""`foresail serve` as a newcomer meets it: what it says, what it refuses, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from aiohttp import web
from tests.support.configurations import learned, model, policy, pool, write
from tests.support.serving import done, eventually, refused, serving
from tests.support.upstream import Asked, Script, answers, completion, running_upstream, usage

DIGEST = "sha256:" + "a" * 64


async def test_two_files_serve_an_openai_client(tmp_path: Path) -> None:
    async with running_upstream(answers("Hello from upstream.")) as upstream:
        write(tmp_path / "pool.yaml", pool([model("dear", upstream.url, price="10"), model("cheap", upstream.url)]))
        write(tmp_path / "policy.yaml", policy())
        async with serving(tmp_path, "-f", tmp_path) as served:
            async with served.openai() as client:
                messages = [{"role": "user", "content": "Hello"}]
                answer = await client.chat.completions.with_raw_response.create(model="auto", messages=messages)
                assert answer.parse().choices[0].message.content == "Hello from upstream."
                assert answer.headers["x-foresail-model"] == "cheap"
                assert answer.headers["x-foresail-basis"] == "Cheapest"
                listed = [entry.id async for entry in await client.models.list()]
                assert listed == ["auto", "dear", "cheap"]
                stream = await client.chat.completions.create(model="dear", messages=messages, stream=True)
                assert (
                    "".join([chunk.choices[0].delta.content or "" async for chunk in stream]).strip()
                    == "Hello from upstream."
                )
            assert (await served.http.get("/readyz")).status_code == 200
            assert await served.ended() == 0
        text = (tmp_path / "serve.log").read_text()
        assert "policy     default/policy" in text
        assert "10.00 / 10.00" in text
        assert f"curl {served.url}/chat/completions" in text
        assert "warning: anybody on this machine may call" in text
        assert "warning: no artifact: the strategy is Cheapest" in text


async def test_what_cannot_be_served_is_told_and_ends_with_status_2(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    assert "all.yaml does not exist" in refused("serve", "-f", file)
    file.write_text("kind: [")
    assert "line 1 is not YAML" in refused("serve", "-f", file)
    write(file, pool([model("cheap")]))
    assert "no RoutingPolicy in" in refused("serve", "-f", file)
    write(file, pool([model("cheap")]), policy(), policy("other"))
    assert "choose one of them with --policy: other, policy" in refused("serve", "-f", file)
    assert "no RoutingPolicy third" in refused("serve", "-f", file, "--policy", "third")
    write(file, policy())
    assert "ModelPool 'pool' does not exist in namespace 'default'; create it" in refused("serve", "-f", file)
    backend = model("cheap") | {"upstreams": [{"name": "main", "backendRef": {"name": "vllm", "port": 8000}}]}
    write(file, pool([backend]), policy())
    assert "use `url` with `foresail serve`" in refused("serve", "-f", file)
    assert "is not a snapshot" in refused("serve", "--snapshot", file)
    assert "--policy chooses among YAML files" in refused("serve", "--snapshot", file, "--policy", "policy")


async def test_flags_that_make_no_sense_are_told(tmp_path: Path) -> None:
    write(tmp_path / "all.yaml", pool([model("cheap")]), policy())
    for flags, words in [
        (["--volume-claim", "routers"], "not of the form NAME=DIR"),
        (["--volume-claim", f"routers={tmp_path}/absent"], "is not a directory"),
        (["--port", "65536"], "does not lie between 0 and 65535"),
        (["--drain-seconds", "soon"], "is not a number"),
        (["--buffer-mebibytes", "7"], "--buffer-mebibytes 7 has no room for one request of --body-limit-mebibytes 8"),
        (["--host", "256.0.0.1"], "cannot listen on 256.0.0.1"),
    ]:
        assert words in refused("serve", "-f", tmp_path, *flags)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refused("serve", "-f", tmp_path, "--port", str(port))
    assert f"cannot listen on 127.0.0.1:{port}: another process does" in message
    assert "--port" in message


async def test_a_missing_artifact_is_said_by_every_decision_or_by_readiness(tmp_path: Path) -> None:
    async with running_upstream(answers()) as upstream:
        volume = tmp_path / "volume"
        volume.mkdir()
        both = pool([model("cheap", upstream.url), model("dear", upstream.url, price="10")])
        write(tmp_path / "all.yaml", both, policy(router=learned(DIGEST)))
        flags = ("-f", tmp_path, "--volume-claim", f"routers={volume}")
        async with serving(tmp_path, *flags) as served:
            answer = await served.ask()
            assert answer.headers["x-foresail-basis"] == "FailOpenCheapest"
            body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
            route = (await served.http.post("/v1/route", json=body)).json()
            assert route["scoring_error"] == "ArtifactNotLoaded"
            assert (await served.http.get("/readyz")).status_code == 200
            assert "does not exist or is not a directory; every decision falls back" in served.log.read_text()
            write(tmp_path / "all.yaml", both, policy(router=learned(DIGEST, failureMode="FailClose")))

            async def unready() -> bool:
                return (await served.http.get("/readyz")).status_code == 503

            await eventually(unready, "a FailClose policy without its artifact is not ready")
            assert (await served.ask()).status_code == 503


def slow(seconds: float) -> Script:
    async def script(asked: Asked, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(body=completion("late", usage(1, 1)), content_type="application/json")

    return script


async def test_requests_under_way_end_before_the_process_does(tmp_path: Path) -> None:
    async with running_upstream(slow(1.5)) as upstream:
        write(tmp_path / "all.yaml", pool([model("cheap", upstream.url)]), policy())
        async with serving(tmp_path, "-f", tmp_path) as served:
            asking = asyncio.create_task(served.ask())
            async with asyncio.timeout(10):
                await upstream.arrived.wait()
            assert await served.ended() == 0
            answer = await asking
            assert answer.status_code == 200
            assert answer.json()["choices"][0]["message"]["content"] == "late"


async def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    async with running_upstream(slow(60)) as upstream:
        write(tmp_path / "all.yaml", pool([model("cheap", upstream.url)]), policy())
        async with serving(tmp_path, "-f", tmp_path, "--drain-seconds", "60") as served:
            asking = asyncio.create_task(served.ask())
            async with asyncio.timeout(10):
                await upstream.arrived.wait()
            served.process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.3)
            assert served.process.poll() is None
            assert await served.ended(signal.SIGINT) == 128 + signal.SIGINT
            with contextlib.suppress(Exception):
                await asking


async def test_readiness_ends_before_listening_does(tmp_path: Path) -> None:
    write(tmp_path / "all.yaml", pool([model("cheap")]), policy())
    async with serving(tmp_path, "-f", tmp_path, "--shutdown-delay-seconds", "3") as served:
        served.process.terminate()

        async def draining() -> bool:
            answer = await served.http.get("/readyz")
            return answer.status_code == 503 and "drain" in answer.text.lower()

        await eventually(draining, "/readyz says that the process is draining")
        assert (await served.http.get("/healthz")).status_code == 200
        assert await asyncio.to_thread(served.process.wait, 15) == 0


async def test_a_compiled_snapshot_serves_as_its_manifests_do(tmp_path: Path) -> None:
    async with running_upstream(answers()) as upstream:
        file = write(tmp_path / "all.yaml", pool([model("cheap", upstream.url)]), policy())
        compiled = done("compile", "-f", file)
        snapshot = tmp_path / "snapshot.json"
        snapshot.write_text(compiled)
        async with serving(tmp_path, "--snapshot", snapshot) as served:
            assert (await served.ask()).status_code == 200
            body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
            route = (await served.http.post("/v1/route", json=body)).json()
            assert route["snapshot_hash"] == json.loads(compiled)["hash"]


def test_a_policy_that_is_not_learned_loads_no_heavy_library() -> None:
    heavy = {"torch", "transformers", "kopf", "kubernetes", "pyarrow", "numpy", "onnxruntime", "genai_prices"}
    code = "import sys; import foresail_sidecar.serving.process; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert heavy.isdisjoint(printed.stdout.split())
