"""Which header fields cross the data plane."""

from __future__ import annotations

import pytest

from foresail_sidecar.upstreams.headers import merged, to_client, to_upstream


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Connection"),
        *("Proxy-Authenticate", "Proxy-Authorization", "Authorization", "Cookie", "Cookie2"),
        *("X-Api-Key", "api-key", "X-Goog-Api-Key", "Ocp-Apim-Subscription-Key", "X-Amz-Security-Token"),
        *("Ocp-Apim-Subscription-Apikey", "X-Access-Key-Id"),
        *(
            "Api_Key",
            "X_Api_Key",
            "Access_Key",
            "Helicone-Auth",
            "X-JWT-Assertion",
            "X_Forwarded_For",
            "X_Foresail_Model",
        ),
        *("X-Auth-Request-Email", "X-Auth-Request-Access-Token", "X-CSRF-Token", "X-Client-Secret", "X-Password"),
        *("Host", "Content-Length", "Content-Encoding", "Content-Type", "Accept-Encoding", "Expect"),
        *("X-Forwarded-For", "X-Forwarded-Client-Cert", "Forwarded", "X-Real-IP", "Via", "Referer", "Origin"),
        *("OpenAI-Organization", "OpenAI-Project", "X-Foresail-Model", "x-foresail-anything", "Sec-Fetch-Mode"),
    ],
)
def test_fields_that_never_go_to_an_upstream(name: str) -> None:
    assert to_upstream([(name, "x"), (name.lower(), "x"), (name.upper(), "x")]) == []


@pytest.mark.parametrize(
    "name",
    ["Accept", "User-Agent", "Traceparent", "Tracestate", "X-Request-Id", "Idempotency-Key", "OpenAI-Beta", "X-Title"],
)
def test_fields_that_do(name: str) -> None:
    assert to_upstream([(name, "x")]) == [(name, "x")]
    assert to_client([(name, "x")]) == [(name, "x")]


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "Transfer-Encoding", "Trailer", "Content-Length", "Content-Encoding"),
        *("Set-Cookie", "Server", "Date", "Alt-Svc", "Strict-Transport-Security", "WWW-Authenticate"),
        *("OpenAI-Organization", "OpenAI-Project", "X-Foresail-Cost-USD"),
    ],
)
def test_fields_that_never_go_to_a_client(name: str) -> None:
    assert to_client([(name, "x"), (name.lower(), "x")]) == []


def test_what_connection_names_stays_behind() -> None:
    fields = [("X-One", "1"), ("x-two", "2"), ("X-Three", "3")]
    named = ["keep-alive, X-ONE", " X-Two "]
    assert to_upstream(fields, named) == [("X-Three", "3")]
    assert to_client(fields, named) == [("X-Three", "3")]


def test_repeated_fields_stay_repeated() -> None:
    fields = [("Link", "a"), ("Link", "b")]
    assert to_client(fields) == fields
    assert to_upstream(fields) == fields


def test_our_own_fields_override() -> None:
    assert merged({"Api-Key": "ours"}, [("api-key", "theirs"), ("Link", "a"), ("Link", "b")]) == [
        ("Api-Key", "ours"),
        ("Link", "a"),
        ("Link", "b"),
    ]
