"""The per-request cap is a guarantee: whatever a client sends and however an upstream counts, no bill exceeds it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.billing import BillingUpstream, nfkc
from tests.support.decisions import estimate, model, price, snapshot

from foresail_api.pool import Capability, OutputLimitField
from foresail_api.reasons import Elimination
from foresail_api.snapshot import Snapshot, SnapshotModel, SnapshotTier, SnapshotTokenPrices
from foresail_router.decision.conditions import Conditions
from foresail_router.decision.decide import decide
from foresail_router.decision.eliminate import eliminate
from foresail_router.decision.price import bound_input, worst_case
from foresail_router.decision.ratios import InputRatios
from foresail_router.decision.types import Candidate, Decision, NeutralRequest
from foresail_router.engine.interface import Estimate
from foresail_sidecar.protocols.errors import BadRequest
from foresail_sidecar.protocols.openai import ParsedChat, parse_request, rewrite

# What each model's upstream does. The pool declares the tokens of the system prompt as its overhead, and nothing else.
UPSTREAMS = {
    "bytes": BillingUpstream(system_prompt_tokens=0),
    "wrapped": BillingUpstream(system_prompt_tokens=700, indent=4),
    "normalised": BillingUpstream(system_prompt_tokens=5, normalise=nfkc),
    "only-max-completion-tokens": BillingUpstream(system_prompt_tokens=9, limit_name="max_completion_tokens"),
    "ignores-case": BillingUpstream(system_prompt_tokens=0, case_insensitive=True, normalise=nfkc, indent=4),
    "escapes": BillingUpstream(system_prompt_tokens=3, escapes=True, indent=4),
    "own-fields": BillingUpstream(
        system_prompt_tokens=2,
        own_limits=frozenset({"n_predict", "x_predict", "sampling_params"}),
        own_models=frozenset({"fallbacks", "x_models"}),
    ),
    "raw-arguments": BillingUpstream(system_prompt_tokens=1, reprints_arguments=False, indent=2),
    "sees": BillingUpstream(system_prompt_tokens=4, tokens_of_an_image=700),
}
ALL_CAPABILITIES = frozenset(Capability)


def pooled(name: str, **changes: Any) -> SnapshotModel:
    upstream = UPSTREAMS[name]
    field = (
        OutputLimitField.MAX_TOKENS if upstream.limit_name == "max_tokens" else OutputLimitField.MAX_COMPLETION_TOKENS
    )
    return model(
        name,
        limit_field=field,
        overhead_tokens=upstream.system_prompt_tokens,
        context_window_tokens=100_000_000,
        capabilities=ALL_CAPABILITIES,
        max_tokens_per_image=upstream.tokens_of_an_image or None,
        **changes,
    )


def decided(body: bytes, served: Snapshot, estimates: dict[str, Estimate] | None) -> tuple[ParsedChat, Decision]:
    parsed = parse_request(body)
    ratios = InputRatios()
    tokens = {one.name: ratios.estimate(one.name, parsed.neutral.input_bytes) for one in served.models}
    candidates = eliminate(parsed.neutral, served, Conditions(tokens))
    decision = decide(
        parsed.neutral,
        served,
        candidates,
        estimates,
        cost_reference=None,
        scoring_error=None,
        snapshot_hash=served.content_hash(),
    )
    return parsed, decision


def check_guarantee(body: bytes, served: Snapshot, estimates: dict[str, Estimate] | None = None) -> Decision:
    """Send the request to every model that may answer it, and hold each bill against the cap and the worst case."""
    parsed, decision = decided(body, served, estimates)
    cap = served.per_request_nano_dollars
    assert cap is not None
    for candidate in decision.candidates:
        one = served.model(candidate.model)
        assert one is not None
        if candidate.elimination is None:
            forwarded = rewrite(
                parsed,
                model=one.upstreams[0].model,
                output_limit=candidate.output_limit,
                limit_field=one.upstreams[0].output_limit_field,
            )
            bill = UPSTREAMS[candidate.model].bill(forwarded)
            assert one.price is not None
            assert candidate.worst_case is not None
            assert candidate.input_tokens_bound is not None
            assert bill.input_tokens <= candidate.input_tokens_bound, (candidate.model, forwarded[:300])
            assert bill.nano_dollars(one.price) <= candidate.worst_case <= cap
        check_not_needless(parsed.neutral, one, candidate, cap)
    assert decision.chosen is None or decision.chosen.elimination is None
    return decision


def check_not_needless(asked: NeutralRequest, one: SnapshotModel, candidate: Candidate, cap: int) -> None:
    """A cap only takes away what does not fit in it."""
    if one.price is None or candidate.input_tokens_bound is None:
        return

    def fits(output_limit: int) -> bool:
        assert one.price is not None
        assert candidate.input_bound is not None
        return worst_case(one.price, candidate.input_bound, asked.choices, output_limit) <= cap

    if candidate.uncapped_output_limit is not None:
        assert not fits(candidate.output_limit + 1)
    if candidate.elimination == Elimination.OVER_PER_REQUEST_CAP:
        assert not fits(0)
    elif candidate.elimination == Elimination.CLAMP_TOO_SMALL and candidate.worst_case is None:
        assert asked.thinking_tokens is not None
        assert asked.thinking_tokens >= candidate.output_limit
    elif candidate.elimination == Elimination.CLAMP_TOO_SMALL:
        assert candidate.worst_case is not None
        assert candidate.worst_case > cap


# What compatibility normalisation makes longer, what composes, what has no UTF-8, what JSON escapes, and plain letters.
TEXTS = st.text(
    st.one_of(
        st.sampled_from("\ufdfa\ufdfb\u3300\u33ff\u00bd\u2026\u01c4\u0301\u0323\u1e69\uac01\ud800\udfff\U0001f600"),
        st.sampled_from('\x00\x01\n\t"\\/<>&{}[]:, '),
        st.characters(codec=None),
    ),
    max_size=40,
) | st.builds(
    lambda character, number: character * number, st.sampled_from("\ufdfa\u33ff\u00bd\u0323"), st.integers(1, 200)
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS, st.just(1e300)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXTS, inner, max_size=5)),
    max_leaves=15,
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value, 1]
    return value


DEEP = st.integers(1, 60).map(nested)
ARGUMENTS = st.one_of(VALUES, DEEP).map(lambda value: json.dumps(value, separators=(",", ":"))) | TEXTS
CALLS = st.lists(
    st.builds(
        lambda name, arguments: {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}},
        TEXTS,
        ARGUMENTS,
    ),
    max_size=3,
)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUFB"}}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
PARTS = st.builds(lambda text, mark: {"type": "text", "text": text, **mark}, TEXTS, st.sampled_from([{}, CACHED]))
PARTS = PARTS | st.just(IMAGE)
CONTENT = st.one_of(TEXTS, st.none(), st.lists(PARTS, max_size=3))
ROLES = st.sampled_from(["user", "assistant", "system", "developer", "tool", ""]) | TEXTS
MESSAGES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": ROLES}),
        st.fixed_dictionaries({"role": ROLES, "content": CONTENT}, optional={"name": TEXTS, "tool_call_id": TEXTS}),
        st.fixed_dictionaries({"role": st.just("assistant"), "tool_calls": CALLS}, optional={"content": CONTENT}),
    ),
    min_size=1,
    max_size=6,
)
TOOLS = st.lists(
    st.builds(
        lambda name, parameters: {"type": "function", "function": {"name": name, "parameters": parameters}},
        TEXTS,
        st.one_of(VALUES, DEEP),
    ),
    max_size=3,
)
LIMITS = st.one_of(st.none(), st.integers(1, 10**6), st.integers(1, 20))
# Names that some upstream takes for one of ours, with a value that would break the cap if it did.
LOOK_ALIKES_OF = frozenset({"Max_Tokens", "MAX_TOKENS", "N", "Best_Of", "max_to\u212aens", "Max_Completion_Tokens"})
LOOK_ALIKES = st.one_of(
    st.just({}), st.just({}), st.just({}), st.dictionaries(st.sampled_from(sorted(LOOK_ALIKES_OF)), st.just(10**6))
)
# Fields that the upstream "own-fields" obeys past the limit and the price, known to Foresail or not.
STEERING = st.one_of(
    *[st.just({})] * 4,
    st.dictionaries(
        st.sampled_from(["n_predict", "x_predict", "reasoning", "sampling_params", "fallbacks", "x_models"]),
        st.one_of(st.integers(1, 10**6), st.just(["dear"]), st.just({"max_tokens": 10**6})),
        max_size=2,
    ),
)
FIELDS = st.fixed_dictionaries(
    {"model": st.sampled_from(["auto", "auto", "auto", "bytes"]), "messages": MESSAGES},
    optional={
        "max_tokens": LIMITS,
        "max_completion_tokens": LIMITS,
        "n": st.none() | st.integers(1, 128),
        "best_of": st.none() | st.integers(1, 128),
        "stream": st.booleans(),
        "stream_options": st.none() | st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}),
        "tools": TOOLS,
        "functions": st.lists(VALUES, max_size=2),
        "tool_choice": VALUES,
        "response_format": VALUES,
        "documents": VALUES,
        "chat_template_kwargs": st.fixed_dictionaries({}, optional={"thinking": LEAVES, "reasoning_effort": TEXTS}),
        "guided_json": st.one_of(VALUES, DEEP),
        "temperature": st.floats(0, 2),
    },
)


def written(fields: dict[str, Any], order: Any, ascii_only: bool, indent: int | None) -> bytes:
    """Print a body as some client would: any order, escaped or not, with white space or without."""
    names = list(fields)
    order.shuffle(names)
    separators = (",", ":") if indent is None else None
    shuffled = {name: fields[name] for name in names}
    try:
        return json.dumps(shuffled, ensure_ascii=ascii_only, indent=indent, separators=separators).encode()
    except UnicodeEncodeError:  # half of a surrogate pair can be sent escaped only
        return json.dumps(shuffled, indent=indent, separators=separators).encode()


BODIES = st.builds(
    written,
    st.builds(lambda fields, look_alikes, steering: fields | look_alikes | steering, FIELDS, LOOK_ALIKES, STEERING),
    st.randoms(use_true_random=False),
    st.booleans(),
    st.sampled_from([None, 1]),
)
AMOUNTS = st.one_of(
    st.integers(0, 200).map(str),
    st.decimals(0, 100, places=6, allow_nan=False, allow_infinity=False).map(str),
    st.just("0"),
)
CAPS = st.one_of(
    st.decimals(0, "0.02", places=6).map(str), st.decimals(0, 1, places=3).map(str), st.integers(0, 3).map(str)
)
PRICES = st.builds(price, AMOUNTS, AMOUNTS, st.one_of(st.just("0"), st.decimals(0, "0.01", places=6).map(str)))
MICRO_DOLLARS = st.integers(0, 20 * 10**6)
TABLES = st.builds(SnapshotTokenPrices, **dict.fromkeys(SnapshotTokenPrices.model_fields, MICRO_DOLLARS))
TIERS = st.dictionaries(st.integers(1, 3000), TABLES, max_size=2).map(
    lambda tables: tuple(SnapshotTier(above_input_tokens=above, prices=tables[above]) for above in sorted(tables))
)
BY_KIND = st.builds(
    lambda one, **kinds: one.model_copy(update=kinds),
    PRICES,
    cache_write_long_micro_dollars=st.none() | MICRO_DOLLARS,
    image_micro_dollars=st.none() | MICRO_DOLLARS,
    tiers=TIERS,
)


@st.composite
def pools(draw: st.DrawFn) -> Snapshot:
    names = draw(st.lists(st.sampled_from(sorted(UPSTREAMS)), min_size=1, unique=True))
    models = []
    for name in names:
        most = draw(st.integers(1, 100_000))
        models.append(
            pooled(
                name,
                price=draw(PRICES | BY_KIND),
                max_output_tokens=most,
                default_max_output_tokens=draw(st.integers(1, most)),
                min_output_tokens=draw(st.integers(1, min(most, 64))),
            )
        )
    return snapshot(*models, cap=draw(CAPS))


def with_room(body: bytes, served: Snapshot, output_tokens: int) -> Snapshot:
    """Set the cap so that so many output tokens of the first model fit: where a mistake of one token shows."""
    asked, first = parse_request(body).neutral, served.models[0]
    bound = bound_input(first, replace(asked, unpriceable=None))
    if bound is None:
        return served
    assert first.price is not None
    cap = worst_case(first.price, bound, asked.choices, output_tokens)
    return served.model_copy(update={"per_request_nano_dollars": cap})


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    body=BODIES,
    served=pools(),
    room=st.none() | st.integers(0, 3000),
    lengths=st.none() | st.lists(st.floats(0, 5000), min_size=len(UPSTREAMS), max_size=len(UPSTREAMS)),
)
def test_no_bill_exceeds_the_cap(body: bytes, served: Snapshot, room: int | None, lengths: list[float] | None) -> None:
    estimates = None
    if lengths is not None:
        estimates = {name: estimate(name, 0.5, length) for name, length in zip(UPSTREAMS, lengths, strict=True)}
    if LOOK_ALIKES_OF.isdisjoint(json.loads(body)):
        check_guarantee(body, served if room is None else with_room(body, served, room), estimates)
    else:
        with pytest.raises(BadRequest, match="in case only"):
            parse_request(body)


def every_model(cap: str, **changes: Any) -> Snapshot:
    return snapshot(*(pooled(name, **changes) for name in UPSTREAMS), cap=cap)


def chat(*messages: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": list(messages), **fields}).encode()


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(chat(*[user("")] * 10_000), id="ten thousand empty messages"),
        pytest.param(chat(*[{"role": ""}] * 10_000), id="ten thousand messages without anything"),
        pytest.param(chat(user("\ufdfa" * 5000)), id="eleven times as long once normalised"),
        pytest.param(chat(user("a" + "\u0323\u0301" * 30_000)), id="too many combining marks to sort"),
        pytest.param(chat(user("\U0001f600" * 5000)), id="escaped as surrogate pairs"),
        pytest.param(chat(user("hi"), n=128, best_of=127, max_tokens=10**15), id="the most answers and a huge limit"),
        pytest.param(
            chat(user("hi"), tools=[{"type": "function", "function": {"name": "f", "parameters": nested(200)}}]),
            id="tools that grow when they are indented",
        ),
        pytest.param(
            chat(user("hi"), tools=[{"type": "function", "function": {"name": "<&'\U0001f600" * 500}}]),
            id="tools that grow when they are escaped",
        ),
        pytest.param(
            chat(user("hi"), **{"documents": [1e15, 1e22] * 500}), id="numbers that grow when they are printed"
        ),
        pytest.param(chat(user("hi"), **{"\U0001f600": "unknown", "": "empty"}), id="odd keys"),
        pytest.param(
            chat(
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": "[" + "1e15," * 999 + "1]"}}],
                }
            ),
            id="arguments that grow when they are printed",
        ),
    ],
)
@pytest.mark.parametrize("cap", ["0.001", "0.1", "10"])
def test_no_bill_exceeds_the_cap_for_bodies_made_to_do_so(body: bytes, cap: str) -> None:
    check_guarantee(body, every_model(cap, price=price("1", "3")))


@pytest.mark.parametrize(
    "field",
    [
        "n_predict",
        "max_new_tokens",
        "num_return_sequences",
        "use_beam_search",
        "chat_template",
        "web_search_options",
        "prediction",
        "models",
        "extra_body",
        "fallbacks",
        "sampling_params",
        "reasoning",
        "x_predict",
        "never_heard_of",
    ],
)
def test_a_field_that_some_upstream_bills_beyond_the_limit_is_not_forwarded_under_a_cap(field: str) -> None:
    decision = check_guarantee(chat(user("hi"), **{field: 10**6}), every_model("1"))
    assert decision.refusal is not None
    assert f"`{field}`" in decision.refusal.message
    assert {one.elimination for one in decision.candidates} == {Elimination.UNPRICEABLE}


@pytest.mark.parametrize(
    "look_alike", ["Max_Tokens", "MAX_COMPLETION_TOKENS", "N", "max_to\u212aens", "Messages", "N_Predict"]
)
def test_a_name_that_differs_in_case_only_is_refused(look_alike: str) -> None:
    with pytest.raises(BadRequest, match="in case only"):
        parse_request(chat(user("hi"), **{look_alike: 10**6}))


def test_a_cap_that_fits_exactly_neither_clamps_nor_refuses() -> None:
    body = chat(user("hello"), max_tokens=100)
    bound = parse_request(body).neutral.input_bytes
    one = pooled("bytes", price=price("1", "3"))
    needed = bound + 3 * 100  # micro-dollars per million tokens are thousandths of a nano-dollar per token
    exact = snapshot(one, cap=f"0.{needed:06d}")
    less = snapshot(one, cap=f"0.{needed - 1:06d}")
    assert [candidate.output_limit for candidate in check_guarantee(body, exact).candidates] == [100]
    assert [candidate.output_limit for candidate in check_guarantee(body, less).candidates] == [99]
