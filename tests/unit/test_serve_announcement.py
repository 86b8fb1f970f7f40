"""What `foresail serve` prints, for each kind of policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.configurations import Object, learned, model, policy, pool, write

from foresail_sidecar.configuration.sources import ManifestSource
from foresail_sidecar.configuration.state import ArtifactFacts, ServingState
from foresail_sidecar.serving.announcement import announcement, base_url, dollars
from foresail_sidecar.tenants.directory import TenantDirectory
from foresail_sidecar.tenants.keys import ApiKey

DIGEST = "sha256:" + "a" * 64
BOUNDED = model("small", price="0.25") | {"tokenCount": {"overheadTokens": 10}}


def state(tmp_path: Path, *models: Object, **spec: Any) -> ServingState:
    file = write(tmp_path / "all.yaml", pool(models or [BOUNDED]), policy(**spec))
    snapshot = ManifestSource([file], None).load().snapshot
    return ServingState(snapshot, snapshot.content_hash(), 1, {})


def printed(served: ServingState, host: str = "127.0.0.1", *warnings: str) -> str:
    return announcement("1.2.3", served, host, 8080, warnings)


def test_a_newcomer_sees_what_is_served_and_how_to_call_it(tmp_path: Path) -> None:
    text = printed(
        state(tmp_path, BOUNDED, model("free", "http://10.0.0.1:8000/v1", price=None)), "127.0.0.1", "look here"
    )
    assert text.startswith("Foresail 1.2.3 is serving\n")
    assert "  pool       pool, 2 models\n" in text
    assert "  ask for    auto; a model's own name passes through\n" in text
    assert "  small  0.25 / 0.25                    8,192    http://127.0.0.1:9/v1\n" in text
    assert "  free   unknown                        8,192    http://10.0.0.1:8000/v1\n" in text
    assert """-d '{"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}'""" in text
    assert 'base_url="http://127.0.0.1:8080/v1"' in text
    assert text.endswith("  warning: look here\n")


def test_a_cap_a_default_and_an_alias_are_shown(tmp_path: Path) -> None:
    router = {"strategy": "Default", "defaultModel": "small"}
    text = printed(state(tmp_path, router=router, costLimits={"perRequest": "0.0125"}, aliases=["smart", "fast"]))
    assert "  strategy   Default, default model small\n" in text
    assert "  cap        $0.0125 per request, at worst\n" in text
    assert "  ask for    smart or fast;" in text
    assert '"model": "smart"' in text
    assert "objective" not in text


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ({"tradeoff": {"costWeightPercent": 40}}, "predicted quality against cost, cost weight 40 %"),
        (
            {"cheapestWithinPercentOfBest": {"percent": 5}},
            "the cheapest model within 5 % of the best predicted quality",
        ),
    ],
)
def test_a_learned_policy_shows_its_router_and_objective(tmp_path: Path, objective: Object, words: str) -> None:
    served = state(tmp_path, router=learned(DIGEST), objective=objective)
    served = replace(served, artifact=ArtifactFacts(DIGEST, "knn", ("small",), "small", 1, 1))
    text = printed(served)
    assert "  strategy   Learned (knn, sha256:aaaaaaaaaaaa…)\n" in text
    assert f"  objective  {words}\n" in text


@pytest.mark.parametrize(
    ("host", "anonymous", "words"),
    [
        ("127.0.0.1", "Allow", "anybody on this machine may call and spend"),
        ("localhost", "Allow", "anybody on this machine may call and spend"),
        ("0.0.0.0", "Allow", "anybody who can reach 0.0.0.0 may call and spend"),
        ("127.0.0.1", "Deny", "every caller gets status 401"),
    ],
)
def test_who_may_call_is_a_warning(tmp_path: Path, host: str, anonymous: str, words: str) -> None:
    assert f"  warning: {words}" in printed(state(tmp_path, tenants={"anonymous": anonymous}), host)


def test_tenants_are_counted_and_told_where_their_key_goes(tmp_path: Path) -> None:
    keyed = {"apiKeys": {"secretRef": {"name": "tenants"}}}
    keys = {"sha256:0": ApiKey("team-a"), "sha256:1": ApiKey("team-a"), "sha256:2": ApiKey("team-b")}
    text = printed(replace(state(tmp_path, tenants=keyed), tenants=TenantDirectory(keys)))
    assert "  tenants    2 with 3 API keys\n" in text
    assert "-H 'authorization: Bearer YOUR-KEY'" in text
    assert 'api_key="YOUR-KEY"' in text
    assert "warning" not in text
    open_too = printed(replace(state(tmp_path, tenants=keyed | {"anonymous": "Allow"}), tenants=TenantDirectory(keys)))
    assert 'api_key="unused"' in open_too
    assert "warning: anybody on this machine may call and spend" in open_too


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080/v1"),
        ("0.0.0.0", "http://127.0.0.1:8080/v1"),
        ("::", "http://[::1]:8080/v1"),
        ("::1", "http://[::1]:8080/v1"),
        ("gateway.example", "http://gateway.example:8080/v1"),
    ],
)
def test_the_url_is_one_that_can_be_called(host: str, url: str) -> None:
    assert base_url(host, 8080) == url


@pytest.mark.parametrize(
    ("micro", "text"), [(0, "0.00"), (1, "0.000001"), (250_000, "0.25"), (2_000_000, "2.00"), (12_500, "0.0125")]
)
def test_amounts_read_as_dollars(micro: int, text: str) -> None:
    assert dollars(micro) == text
