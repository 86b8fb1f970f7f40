"""Tenants of a served policy as they meet it: `foresail key create`, OpenAI's SDK, and a Secret that changes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from openai import AsyncOpenAI
from tests.support.configurations import Object, model, policy, pool, secret, write
from tests.support.serving import Served, done, eventually, serving
from tests.support.upstream import Upstream, answers, running_upstream

KEYED: Object = {"apiKeys": {"secretRef": {"name": "tenants"}}}
REVOKED_WITHIN_SECONDS = 5


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream(answers()) as running:
        yield running


def created(tenant: str, *arguments: str) -> tuple[str, Object]:
    """A new key and the Secret that makes it valid, as `foresail key create` prints them."""
    printed = done("key", "create", "--tenant", tenant, *arguments)
    (key,) = re.findall(r"^  (fsk_\S+)$", printed, re.MULTILINE)
    return key, yaml.safe_load(printed[printed.index("apiVersion") : printed.index("If the Secret")])


def models(upstream: Upstream) -> list[Object]:
    counted = {"tokenCount": {"overheadTokens": 10}}
    return [model("small", upstream.url, price="1", **counted), model("large", upstream.url, price="10", **counted)]


async def ask(client: AsyncOpenAI, model: str = "auto", **headers: str) -> Any:
    """The raw answer to one short chat completion."""
    messages: Any = [{"role": "user", "content": "Say hello."}]
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.chat.completions.with_raw_response.create(model=model, messages=messages, extra_headers=fields)


def refuses(served: Served, key: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        try:
            async with served.openai(api_key=key) as client:
                await ask(client)
        except openai.AuthenticationError as error:
            return error.code == "invalid_api_key"
        return False

    return check


def accepts(served: Served, key: str) -> Callable[[], Awaitable[bool]]:
    refused = refuses(served, key)

    async def check() -> bool:
        return not await refused()

    return check


async def test_a_created_key_calls_and_neither_it_nor_another_goes_anywhere(tmp_path: Path, upstream: Upstream) -> None:
    key, manifest = created("team-a", "--expires-in-days", "30")
    write(tmp_path / "all.yaml", pool(models(upstream)), policy(tenants=KEYED), manifest)
    async with serving(tmp_path, "-f", tmp_path / "all.yaml", "--decision-log", tmp_path / "decisions") as served:
        async with served.openai(api_key=key) as client:
            assert (await ask(client)).headers["x-foresail-model"] == "small"
        async with served.openai(api_key="fsk_" + "a" * 43) as stranger:
            with pytest.raises(openai.AuthenticationError) as raised:
                await ask(stranger)
        assert raised.value.body == {
            "message": "the API key is not valid here: it is not known, has expired or was revoked; ask the policy's owner for another",
            "type": "authentication_error",
            "param": None,
            "code": "invalid_api_key",
        }
        assert raised.value.response.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        nobody = await served.ask()
        assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "authentication_required")
        for path in ("/v1/models", "/v1/route"):
            method = "GET" if path.endswith("models") else "POST"
            assert (await served.http.request(method, path)).status_code == 401
        assert "  tenants    1 with 1 API key\n" in served.log.read_text()
        (asked,) = upstream.asked
        assert key not in repr(asked)
        assert "Authorization" not in asked.headers
    lines = [json.loads(line) for line in (tmp_path / "decisions").read_text().splitlines()]
    assert [line["tenant"] for line in lines] == ["team-a", None, None]
    assert key not in served.log.read_text() + (tmp_path / "decisions").read_text()


async def test_a_key_is_revoked_with_its_file(tmp_path: Path, upstream: Upstream) -> None:
    first, manifest = created("team-a")
    second, _ = created("team-b")
    mounted = tmp_path / "secrets" / "tenants"
    mounted.mkdir(parents=True)
    ((entry, line),) = manifest["stringData"].items()
    (mounted / entry).write_text(line)
    write(tmp_path / "all.yaml", pool(models(upstream)), policy(tenants=KEYED))
    async with serving(tmp_path, "-f", tmp_path / "all.yaml", "--secrets", tmp_path / "secrets") as served:
        assert await accepts(served, first)()
        assert await refuses(served, second)()
        hashed = line.split()[0]
        (mounted / entry).write_text(f"{hashed} tenant=team-a expires=2001-01-01T00:00:00Z")
        await eventually(refuses(served, first), "an expiry in the past ends the key", REVOKED_WITHIN_SECONDS)
        (mounted / entry).write_text(line)
        await eventually(accepts(served, first), "the key is valid again", REVOKED_WITHIN_SECONDS)
        (mounted / entry).unlink()
        await eventually(refuses(served, first), "the key is gone with its file", REVOKED_WITHIN_SECONDS)
        assert "no API key is valid: Secret 'tenants' has no usable entry" in served.log.read_text()
        assert (await served.http.get("/readyz")).status_code == 200


async def test_a_key_is_revoked_with_its_line_in_a_manifest(tmp_path: Path, upstream: Upstream) -> None:
    first, one = created("team-a")
    second, other = created("team-b")
    write(tmp_path / "all.yaml", pool(models(upstream)), policy(tenants=KEYED))
    write(tmp_path / "keys.yaml", secret(one["stringData"] | other["stringData"], name="tenants"))
    async with serving(tmp_path, "-f", tmp_path / "all.yaml", tmp_path / "keys.yaml") as served:
        assert await accepts(served, first)()
        write(tmp_path / "keys.yaml", secret(other["stringData"], name="tenants"))
        await eventually(refuses(served, first), "the line is gone", REVOKED_WITHIN_SECONDS)
        assert await accepts(served, second)()


async def test_a_tenant_gets_answers_from_its_models_alone(tmp_path: Path, upstream: Upstream) -> None:
    key, manifest = created("team-a")
    free, other = created("team-b")
    rules = [{"name": "team-a", "models": ["large"]}]
    keys = secret(manifest["stringData"] | other["stringData"], name="tenants")
    write(tmp_path / "all.yaml", pool(models(upstream)), policy(tenants=KEYED | {"rules": rules}), keys)
    async with (
        serving(tmp_path, "-f", tmp_path / "all.yaml") as served,
        served.openai(api_key=key) as client,
        served.openai(api_key=free) as unrestricted,
    ):
        assert (await ask(client)).headers["x-foresail-model"] == "large"
        assert (await ask(unrestricted)).headers["x-foresail-model"] == "small"
        assert (await ask(client, "large")).headers["x-foresail-basis"] == "PassThrough"
        with pytest.raises(openai.PermissionDeniedError) as raised:
            await ask(client, "small")
        assert (raised.value.code, raised.value.param) == ("model_not_allowed", "model")
        with pytest.raises(openai.NotFoundError):
            await ask(client, "unheard-of")
        assert [one.id for one in (await client.models.list()).data] == ["auto", "large"]
        assert [one.id for one in (await unrestricted.models.list()).data] == ["auto", "small", "large"]
        asked = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}
        route = await client.post("/route", body=asked, cast_to=object)
        assert [(one["model"], one["eliminated"]) for one in route["candidates"]] == [  # type: ignore[index]
            ("small", "NotAllowed"),
            ("large", None),
        ]


async def test_anonymous_callers_are_let_in_beside_tenants_where_the_policy_says_so(
    tmp_path: Path, upstream: Upstream
) -> None:
    key, manifest = created("team-a")
    open_too = KEYED | {"anonymous": "Allow"}
    write(tmp_path / "all.yaml", pool(models(upstream)), policy(tenants=open_too), manifest)
    async with serving(tmp_path, "-f", tmp_path / "all.yaml") as served:
        assert (await served.ask()).status_code == 200
        assert await accepts(served, key)()
        assert await refuses(served, "unused")()
        write(tmp_path / "all.yaml", pool(models(upstream)), policy())
        await eventually(accepts(served, "unused"), "without keys any key passes")


async def test_headers_only_tighten(tmp_path: Path, upstream: Upstream) -> None:
    capped = policy(costLimits={"perRequest": "0.002"}, router={"strategy": "Default", "defaultModel": "large"})
    write(tmp_path / "all.yaml", pool(models(upstream)), capped)
    async with serving(tmp_path, "-f", tmp_path / "all.yaml") as served, served.openai() as client:

        async def answered(**headers: str) -> tuple[str, str, int]:
            answer = await ask(client, **headers)
            sent = json.loads(upstream.asked[-1].body)
            assert not [name for name in upstream.asked[-1].headers if name.lower().startswith("x-foresail")]
            return answer.headers["x-foresail-model"], answer.headers["x-foresail-basis"], sent["max_tokens"]

        model_, basis, limit = await answered()
        assert (model_, basis) == ("large", "Default")
        assert await answered(x_foresail_max_cost_usd="5") == (model_, basis, limit)
        tightened = await answered(x_foresail_max_cost_usd="0.001")
        assert tightened[:2] == ("large", "Default")
        assert tightened[2] < limit
        assert (await answered(x_foresail_models="small"))[0] == "small"
        assert (await answered(x_foresail_routing="none"))[:2] == ("large", "Unrouted")
        for headers, code, param in [
            ({"x_foresail_max_cost_usd": "0.000001"}, "cost_cap_exceeded", None),
            ({"x_foresail_models": "unheard-of"}, "no_eligible_model", None),
            ({"x_foresail_max_cost_usd": "a lot"}, "invalid_header", "x-foresail-max-cost-usd"),
            ({"x_foresail_models": ","}, "invalid_header", "x-foresail-models"),
            ({"x_foresail_routing": "off"}, "invalid_header", "x-foresail-routing"),
        ]:
            with pytest.raises(openai.BadRequestError) as raised:
                await ask(client, **headers)
            assert (raised.value.code, raised.value.param) == (code, param), headers
