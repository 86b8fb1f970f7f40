"""Which headers cross: no credential of the client's, nothing of the connection, the pool's credential instead."""

from __future__ import annotations

from tests.support.sidecar import bearer, model_of, running_sidecar, snapshot_of, state_of, upstream_of
from tests.support.upstream import answers, completion, running_upstream, says, usage

from foresail_api.pool import AuthScheme

CREDENTIALS = {("keys", "token"): "pool-key"}


async def test_the_clients_credentials_never_reach_an_upstream() -> None:
    sent = {
        "Authorization": "Bearer client-secret",
        "Proxy-Authorization": "Basic client-secret",
        "Cookie": "session=client-secret",
        "X-Api-Key": "client-secret",
        "api-key": "client-secret",
        "X-Goog-Api-Key": "client-secret",
        "X-Amzn-Oidc-Data": "client-secret",
        "X-Forwarded-For": "client-secret",
        "OpenAI-Organization": "client-secret",
        "x-foresail-routing": "none",
        "X-Session-Id": "kept",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    async with running_upstream(answers()) as upstream:
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url, auth=bearer())))
        async with running_sidecar(state_of(snapshot, credentials=CREDENTIALS)) as sidecar:
            sidecar.http.headers.update(sent)
            answer = await sidecar.ask()
    received = upstream.asked[0].headers
    assert answer.status_code == 200
    assert "client-secret" not in str(upstream.asked[0].header_items)
    assert not [name for name in received if name.lower().startswith("x-foresail")]
    assert [value for name, value in upstream.asked[0].header_items if name == "Authorization"] == ["Bearer pool-key"]
    assert received["X-Session-Id"] == "kept"
    assert received["Traceparent"] == sent["Traceparent"]


async def test_without_a_credential_of_the_pools_none_is_sent() -> None:
    async with (
        running_upstream(answers()) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        await sidecar.openai().chat.completions.create(model="auto", messages=[{"role": "user", "content": "x"}])
    assert "Authorization" not in upstream.asked[0].headers
    assert "the-clients-key" not in str(upstream.asked[0])


async def test_a_credential_goes_into_the_header_that_the_upstream_wants() -> None:
    async with running_upstream(answers()) as upstream:
        auth = bearer(scheme=AuthScheme.HEADER, header_name="api-key")
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url, auth=auth)))
        async with running_sidecar(state_of(snapshot, credentials=CREDENTIALS)) as sidecar:
            await sidecar.http.post(
                "/v1/chat/completions",
                json={"model": "auto", "messages": [{"role": "user", "content": "x"}]},
                headers={"API-Key": "client-secret"},
            )
    assert [value for name, value in upstream.asked[0].header_items if name.lower() == "api-key"] == ["pool-key"]


async def test_nothing_of_the_connection_crosses_in_either_direction() -> None:
    said = {
        "Connection": "X-Of-The-Hop",
        "X-Of-The-Hop": "1",
        "Keep-Alive": "timeout=5",
        "Set-Cookie": "a=b",
        "Server": "upstream",
        "x-foresail-model": "forged",
        "OpenAI-Organization": "pool-owner",
        "X-Request-Id": "kept",
    }
    async with (
        running_upstream(says(200, completion("Hello.", usage(3, 2)), **said)) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        sidecar.http.headers.update(
            {"Connection": "keep-alive, X-Of-The-Hop", "X-Of-The-Hop": "1", "TE": "trailers", "Expect": "100-continue"}
        )
        answer = await sidecar.ask()
        again = await sidecar.ask()
    received = {name.lower() for name in upstream.asked[0].headers}
    assert received.isdisjoint({"connection", "x-of-the-hop", "te", "expect", "keep-alive"})
    assert upstream.asked[0].headers["Host"] == upstream.url.split("/")[2]
    assert {"x-of-the-hop", "keep-alive", "set-cookie", "openai-organization", "server"}.isdisjoint(answer.headers)
    assert answer.headers["x-foresail-model"] == "small"
    assert answer.headers["x-request-id"] == "kept"
    assert again.status_code == 200
    assert "Cookie" not in upstream.asked[1].headers


async def test_an_upstream_whose_credential_is_missing_is_left_out() -> None:
    async with running_upstream(answers()) as keyed, running_upstream(answers()) as open_one:
        upstreams = (upstream_of(keyed.url, "keyed", auth=bearer()), upstream_of(open_one.url, "open"))
        async with running_sidecar(snapshot_of(model_of("small", *upstreams))) as sidecar:
            answer = await sidecar.ask()
        async with running_sidecar(snapshot_of(model_of("small", upstreams[0]))) as sidecar:
            refused = await sidecar.ask()
    assert answer.status_code == 200
    assert (len(keyed.asked), len(open_one.asked)) == (0, 1)
    assert refused.status_code == 400
    assert "CredentialMissing" in refused.json()["error"]["message"]


async def test_a_credential_that_no_header_can_carry_is_no_bill_and_no_leak() -> None:
    async with running_upstream(answers()) as upstream:
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url, auth=bearer())))
        async with running_sidecar(state_of(snapshot, credentials={("keys", "token"): "pool\nkey"})) as sidecar:
            answer = await sidecar.ask()
    assert answer.status_code == 502
    assert "first: its URL or credential has characters" in answer.json()["error"]["message"]
    assert "pool" not in answer.text
    assert "x-foresail-cost-usd" not in answer.headers
    assert upstream.asked == []


async def test_what_is_said_about_each_answer() -> None:
    async with running_upstream(answers()) as upstream:
        small = model_of("small", upstream_of(upstream.url), dollars_in=1, dollars_out=2)
        unpriced = model_of("unpriced", upstream_of(upstream.url), price=None)
        async with running_sidecar(snapshot_of(small, unpriced)) as sidecar:
            whole = await sidecar.ask(max_tokens=100)
            stream = await sidecar.ask(max_tokens=100, stream=True)
            passed = await sidecar.ask(model="unpriced")
    # 3 input tokens at 1 and 2 output tokens at 2 US dollars per million
    assert whole.headers["x-foresail-cost-usd"] == "0.000007"
    assert "x-foresail-cost-max-usd" not in whole.headers
    assert whole.headers["x-foresail-basis"] == "Cheapest"
    assert len(whole.headers["x-foresail-decision-id"]) == 32
    assert 0 < float(whole.headers["x-foresail-overhead-ms"]) < 1000
    assert float(stream.headers["x-foresail-cost-max-usd"]) >= 100 * 2e-6
    assert "x-foresail-cost-usd" not in stream.headers
    assert stream.headers["cache-control"] == "no-cache"
    assert passed.headers["x-foresail-basis"] == "PassThrough"
    assert passed.headers["x-foresail-model"] == "unpriced"
    assert "x-foresail-cost-usd" not in passed.headers
