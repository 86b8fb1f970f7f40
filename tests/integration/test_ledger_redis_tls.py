"""The ledger on a Redis behind TLS: its certificate is signed by an authority of the policy's own, or nothing is said to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.certificates import Authority
from tests.support.configurations import model, policy, pool, write
from tests.support.redis_server import redis_server
from tests.support.relay import tls_in_front_of
from tests.support.serving import Served, eventually, serving
from tests.support.upstream import answers, running_upstream, usage

from foresail_sidecar.ledger.interface import LedgerUnavailable
from foresail_sidecar.ledger.opening import LedgerSettings, open_ledger

HOSTS = ("127.0.0.1",)
PATIENCE_SECONDS = 60


@pytest.mark.parametrize("case", ["right", "the machine's", "another", "none", "another host"])
async def test_only_a_server_whose_certificate_is_vouched_for_is_spoken_to(tmp_path: Path, case: str) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    hosts = ("redis.example",) if case == "another host" else HOSTS
    pair = ours.issue("redis", common_name="redis", hosts=hosts)
    trusted = {
        "the machine's": None,
        "another": others.certificate.read_text(),
        "none": "",
    }.get(case, ours.certificate.read_text())
    with redis_server(tmp_path / "redis") as port:
        async with tls_in_front_of(port, pair.certificate, pair.key) as tls_port:
            settings = LedgerSettings(f"rediss://127.0.0.1:{tls_port}", None, 5000, trusted)
            ledger = await open_ledger(settings, uid="uid", password=None, directory=tmp_path)
            try:
                if case == "right":
                    assert (await ledger.status()).faults == ()
                else:
                    with pytest.raises(LedgerUnavailable, match=r"(?i)certificate.verify.failed"):
                        await ledger.status()
            finally:
                await ledger.close()


async def test_a_policy_names_the_authorities_and_follows_their_change(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    pair = ours.issue("redis", common_name="redis", hosts=HOSTS)
    bundle = tmp_path / "secrets" / "redis-tls" / "ca.crt"
    bundle.parent.mkdir(parents=True)
    bundle.write_bytes(ours.certificate.read_bytes())
    with redis_server(tmp_path / "redis") as port:
        async with (
            tls_in_front_of(port, pair.certificate, pair.key) as tls_port,
            running_upstream(answers(counted=usage(1000, 4000))) as upstream,
        ):
            limits = {
                "budgets": [{"name": "day", "amount": "1", "window": {"calendar": {"unit": "Day"}}}],
                "ledger": {
                    "type": "Redis",
                    "redis": {
                        "url": f"rediss://127.0.0.1:{tls_port}",
                        "caSecretRef": {"name": "redis-tls", "key": "ca.crt"},
                    },
                    "timeoutMilliseconds": 5000,
                },
            }
            bounded = model("m", upstream.url, tokenCount={"overheadTokens": 966})
            write(tmp_path / "all.yaml", pool([bounded]), policy(costLimits=limits))
            flags = ("-f", tmp_path / "all.yaml", "--secrets", tmp_path / "secrets", "--state", tmp_path / "state")
            async with serving(tmp_path, *flags, "--decision-log", tmp_path / "log") as served:
                await becomes(served, "0")
                assert (await served.ask()).status_code == 200
                await becomes(served, "0.005")
                bundle.write_bytes(others.certificate.read_bytes())
                await becomes(served, "ledger_unavailable")
                assert (await served.ask()).json()["error"]["code"] == "ledger_unavailable"
                bundle.write_bytes(ours.certificate.read_bytes())
                await becomes(served, "0.005")
            assert "BEGIN CERTIFICATE" not in served.log.read_text()


async def becomes(served: Served, expected: str) -> None:
    """Wait until `GET /v1/budgets` says that so much is spent, or the code of that error."""

    async def says() -> bool:
        answer = (await served.http.get("/v1/budgets")).json()
        found = answer["error"]["code"] if "error" in answer else answer["data"][0]["spent_usd"]
        return bool(found == expected)

    await eventually(says, expected, PATIENCE_SECONDS)
