"""From keys in the environment to an answer: `foresail init`, then `foresail serve`."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.serving import FORESAIL, serving
from tests.support.upstream import answers, running_upstream

from foresail_api.compile import Target, compile_policy
from foresail_api.manifests import load_manifests
from foresail_api.pool import OutputLimitField
from foresail_sidecar.onboarding.providers import PROVIDERS

KEYS = {"OPENAI_API_KEY": "sk-of-openai", "ANTHROPIC_API_KEY": "sk-of-anthropic"}


def init(keys: Mapping[str, str], *arguments: str | Path, folder: Path, status: int = 0) -> str:
    """Run `foresail init` with these keys and no others, and return all that it says."""
    known = {variable for provider in PROVIDERS for variable in provider.variables}
    environment = {name: value for name, value in os.environ.items() if name not in known} | dict(keys)
    command = [FORESAIL, "init", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert not any(key in done.stdout + done.stderr for key in keys.values() if key)
    return done.stdout + done.stderr


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_two_keys_give_answers_of_both_providers(tmp_path: Path) -> None:
    said = init(KEYS, "start", folder=tmp_path)
    start = tmp_path / "start"
    assert "Found OPENAI_API_KEY, ANTHROPIC_API_KEY" in said
    assert "foresail serve -f start --secrets start/secrets" in said
    pool = start / "pool.yaml"
    async with (
        running_upstream(answers("From OpenAI.")) as first,
        running_upstream(answers("From Anthropic.")) as second,
    ):
        text = pool.read_text().replace("https://api.openai.com/v1", first.url)
        pool.write_text(text.replace("https://api.anthropic.com/v1", second.url))
        async with serving(tmp_path, "-f", start, "--secrets", start / "secrets") as served, served.openai() as client:
            messages = [{"role": "user", "content": "Hello"}]
            routed = await client.chat.completions.with_raw_response.create(model="auto", messages=messages)
            assert routed.headers["x-foresail-basis"] == "Cheapest"
            names = [entry.id async for entry in await client.models.list()]
            for name in names[1:]:
                answer = await client.chat.completions.create(model=name, messages=messages)
                content = answer.choices[0].message.content
                assert content == ("From Anthropic." if name.startswith("claude") else "From OpenAI.")
    assert {asked.headers["Authorization"] for asked in first.asked} == {"Bearer sk-of-openai"}
    assert {asked.headers["Authorization"] for asked in second.asked} == {"Bearer sk-of-anthropic"}
    assert "max_completion_tokens" in first.asked[0].json
    assert "max_tokens" in second.asked[0].json
    assert "sk-of" not in (tmp_path / "serve.log").read_text()


def test_keys_are_kept_from_others_and_from_git(tmp_path: Path) -> None:
    init(KEYS, folder=tmp_path)
    secrets = tmp_path / "foresail" / "secrets"
    assert (secrets / "openai" / "api-key").read_text() == "sk-of-openai\n"
    assert mode(secrets) == mode(secrets / "openai") == 0o700
    assert mode(secrets / "openai" / "api-key") == 0o600
    assert (secrets / ".gitignore").read_text() == "*\n"
    for name in ("pool.yaml", "policy.yaml"):
        assert "sk-of" not in (tmp_path / "foresail" / name).read_text()


def test_every_known_provider_gives_a_pool_that_compiles(tmp_path: Path) -> None:
    said = init({provider.variables[-1]: f"key-{provider.name}" for provider in PROVIDERS}, folder=tmp_path)
    manifests = load_manifests([tmp_path / "foresail"])
    policy = manifests.policy(None)
    compilation = compile_policy(policy, manifests.pool_of(policy), Target.LOCAL)
    assert compilation.problems == ()
    assert compilation.snapshot is not None
    assert compilation.snapshot.anonymous_allowed
    upstreams = {upstream for model in compilation.snapshot.models for upstream in model.upstreams}
    assert {upstream.name for upstream in upstreams} == {provider.name for provider in PROVIDERS}
    newer_field = {
        upstream.name for upstream in upstreams if upstream.output_limit_field != OutputLimitField.MAX_TOKENS
    }
    assert newer_field == {"openai"}
    claude = next(model for model in compilation.snapshot.models if model.name.startswith("claude"))
    assert claude.price is not None
    for _, prices in claude.price.tables:
        assert prices.cached_input < prices.input < prices.cache_write_short < prices.cache_write_long < prices.output
    assert "Prices and context windows are from genai-prices " in said


def test_what_is_there_is_not_overwritten_unless_told(tmp_path: Path) -> None:
    init(KEYS, folder=tmp_path)
    pool = tmp_path / "foresail" / "pool.yaml"
    pool.write_text("mine\n")
    said = init(KEYS, folder=tmp_path, status=2)
    assert "foresail/pool.yaml" in said
    assert "--force" in said
    assert pool.read_text() == "mine\n"
    key = tmp_path / "foresail" / "secrets" / "openai" / "api-key"
    key.unlink()
    key.symlink_to(tmp_path / "elsewhere")
    init(KEYS, "--force", folder=tmp_path)
    assert "kind: ModelPool" in pool.read_text()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("keys", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": "  "}])
def test_without_keys_the_variables_are_named(tmp_path: Path, keys: dict[str, str]) -> None:
    said = init(keys, folder=tmp_path, status=2)
    assert "OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, GOOGLE_API_KEY" in said
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_key_is_told_without_showing_it(tmp_path: Path) -> None:
    said = init({"OPENAI_API_KEY": "sk-two words"}, folder=tmp_path, status=2)
    assert "the environment variable OPENAI_API_KEY holds no key" in said


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "foresail").write_text("a file")
    assert "foresail" in init(KEYS, folder=tmp_path, status=2)
