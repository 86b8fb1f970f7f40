"""What upstreams say reaches clients without credentials, identities or addresses, and otherwise as it is."""

from __future__ import annotations

import pytest

from foresail_sidecar.protocols.openai.bodies import UpstreamError
from foresail_sidecar.protocols.openai.context_length import is_context_length
from foresail_sidecar.upstreams.pauses import retry_after_seconds
from foresail_sidecar.upstreams.redaction import plain_word, redacted


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Incorrect API key provided: sk-proj-abc***xyz.", "Incorrect API key provided: ***."),
        ("Rate limit reached for gpt-4o in organization org-Ab12Cd34Ef on tokens per min", None),
        ("wrong header: Bearer abc.def", "wrong header: ***"),
        ("see https://platform.example/account?x=1 for more", "see *** for more"),
        ("connect to 10.2.3.4:8000 failed", "connect to *** failed"),
        ("connect to [fe80:0:0:1::2]:8000 failed", "connect to *** failed"),
        ("no route to vllm-7b.models.svc.cluster.local:8000", "no route to ***"),
        ("mail admin@provider.example", "mail ***"),
        ("request 7f3a9c1e5b7d4a2f9c1e5b7d4a2f9c1e was refused", "request *** was refused"),
        ("the secret is hunter2hunter2", "the secret is ***"),
        ("connect to [2001:db8::1]:8000 failed", "connect to *** failed"),
        ("connect to 2001:db8::7:1 failed", "connect to *** failed"),
        ("connect to gpu-7.corp.example:8000 failed", "connect to *** failed"),
        ("model arn:aws:bedrock:us-east-1:123456789012:provisioned-model/a1 is busy", "model *** is busy"),
        ("model `projects/acme-prod/models/m` was not found", "model `***/models/m` was not found"),
        ("Project number 123456789012 is not enabled", "*** is not enabled"),
    ],
)
def test_what_must_not_be_learned_is_masked(said: str, shown: str | None) -> None:
    expected = shown or "Rate limit reached for gpt-4o in organization *** on tokens per min"
    assert redacted(said, "hunter2hunter2") == expected


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 8192 tokens, however you requested 9000 tokens.",
        "Invalid value for 'messages[0].content': expected one of a string or array of objects.",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "Llama-3.1-70B-Instruct-Turbo does not support tools at 12:30:45",
        "model llama3.1:70b or qwen2.5:14b: project 12 of your account has tools[0]::name",
        "",
    ],
)
def test_what_the_client_can_change_is_told_as_it_is(said: str) -> None:
    assert redacted(said, None) == said


def test_what_is_long_is_shortened_and_shows_no_part_of_a_credential() -> None:
    secret = "hunter2hunter2"
    said = redacted("x" * 495 + " " + secret + " " + "x" * 500, secret)
    assert said == "x" * 495 + " " + "***" + " ..."
    assert plain_word("x" * 501, secret) is None


def test_a_word_is_told_whole_or_not_at_all() -> None:
    assert plain_word("messages[0].content", "secret") == "messages[0].content"
    assert plain_word("a-secret", "secret") is None
    assert plain_word(None, "secret") is None


@pytest.mark.parametrize(
    ("said", "is_length"),
    [
        (UpstreamError("no", code="context_length_exceeded"), True),
        (UpstreamError("This model's maximum context length is 8192 tokens"), True),
        (UpstreamError("prompt is too long: 210000 tokens > 200000 maximum"), True),
        (UpstreamError("the input token count (12) exceeds the maximum"), True),
        (UpstreamError("messages must not be empty", code="invalid_value"), False),
        (UpstreamError("max_tokens is too large: 5000"), False),
    ],
)
def test_a_complaint_about_length_is_told_from_others(said: UpstreamError, is_length: bool) -> None:
    assert is_context_length(said) is is_length


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("0", 0), ("Thu, 01 Jan 1970 00:01:40 GMT", 40), ("Thu, 01 Jan 1970 00:00:10 GMT", 0)],
)
def test_a_pause_is_asked_for_in_seconds_or_as_a_date(value: str, seconds: float) -> None:
    assert retry_after_seconds({"Retry-After": value}, now=60) == seconds


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "٣", "Thu, 99 Jan 1970 00:01:40 GMT"])
def test_another_value_asks_for_none(value: str) -> None:
    assert retry_after_seconds({"Retry-After": value}, now=60) is None
    assert retry_after_seconds({}, now=60) is None
