"""Random histories of operations on each backend, step by step compared with a plain model of the rules."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.support.ledger_model import Attempt, LedgerModel
from tests.support.ledgers import BACKENDS, FAR_MS, Backend

from foresail_sidecar.ledger.interface import (
    Abandoned,
    CalendarSpan,
    Claim,
    Denied,
    Granted,
    Held,
    Measure,
    Option,
    Receipt,
    ReserveRequest,
    RollingSpan,
    Settled,
)

LEASE_MS = 3_600_000
# As many as a test may take the time for; where examples are drawn anew, as many as the profile says.
EXAMPLES = 25
# The first window is over before the second begins, as far as a ledger can tell: only one of them holds now.
WINDOWS = (CalendarSpan(((1_000, FAR_MS),)), CalendarSpan(((1_000, 2_000), (2_000, FAR_MS))))
DAYS = RollingSpan(60 * 86_400_000, 86_400_000)

amounts = st.integers(0, 120)
sparse = st.sampled_from([0, 1, 7, 50, 100, 200])


@st.composite
def budgets(draw: st.DrawFn, window: CalendarSpan, limit: int) -> tuple[Claim, ...]:
    known = (
        Claim("b|day|", window, Measure.MONEY, limit),
        Claim("b|rolling|t", DAYS, Measure.MONEY, 300, overdraft=40),
        Claim("b|watched|", window, Measure.MONEY, 50, enforced=False),
    )
    return tuple(draw(st.lists(st.sampled_from(known), unique=True, max_size=3)))


@st.composite
def options(draw: st.DrawFn) -> tuple[Option, ...]:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        wanted = draw(amounts)
        least = draw(st.integers(0, wanted))
        upstream = draw(st.sampled_from(["a", "b"]))
        limits = (
            Claim(f"u|{upstream}|slots", Held(), Measure.SLOTS, 3, amount=1),
            Claim(f"u|{upstream}|tokens", DAYS, Measure.TOKENS, 400, amount=draw(sparse)),
        )
        claims = draw(st.lists(st.sampled_from(limits), unique=True, max_size=2))
        found.append(Option(wanted, least, draw(st.booleans()), tuple(claims)))
    return tuple(found)


class LedgerMachine(RuleBasedStateMachine):
    """Two openings of one ledger, used in turn, and the model beside them."""

    backend: Backend
    loop: asyncio.AbstractEventLoop
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        uid = uuid.uuid4().hex
        self.ledgers = [self.backend.open(uid), self.backend.open(uid)]
        self.turn = 0
        self.model = LedgerModel()
        self.receipts: dict[str, Receipt] = {}
        self.requests: dict[str, ReserveRequest] = {}
        self.now_ms = 0
        self.window = 0
        self.limit = 200
        self.overspent = False

    @property
    def ledger(self):  # type: ignore[no-untyped-def]
        self.turn += 1
        return self.ledgers[self.turn % 2]

    def run(self, operation):  # type: ignore[no-untyped-def]
        return self.loop.run_until_complete(asyncio.wait_for(operation, 10.0))

    def reserve(self, request: ReserveRequest) -> None:
        try:
            answer: Granted | Denied | None = self.run(self.ledger.reserve(request))
        except Abandoned:
            answer = None
        self.now_ms = answer.now_ms if answer is not None else self.now_ms
        expected = self.model.reserve(request, self.now_ms)
        if answer is None:
            assert expected is None
        elif isinstance(answer, Denied):
            assert {(short.option, short.account) for short in answer.shortages} == expected
        else:
            assert isinstance(expected, Attempt)
            assert (answer.option, answer.amount) == (expected.option, expected.granted)
            assert answer.receipt.entries == expected.entries
            self.receipts[request.attempt_id] = answer.receipt

    @initialize()
    def begin(self) -> None:
        self.now_ms = self.run(self.ledger.status()).now_ms

    @rule(target=attempts, data=st.data())
    def reserve_anew(self, data: st.DataObject) -> str:
        attempt_id = f"attempt-{len(self.requests)}"
        claims = data.draw(budgets(WINDOWS[self.window], self.limit))
        self.requests[attempt_id] = ReserveRequest(attempt_id, claims, data.draw(options()), LEASE_MS)
        self.reserve(self.requests[attempt_id])
        return attempt_id

    @rule(attempt_id=attempts)
    def reserve_again(self, attempt_id: str) -> None:
        self.reserve(self.requests[attempt_id])

    @rule(attempt_id=attempts, data=st.data(), revision=st.integers(1, 3))
    def settle(self, attempt_id: str, data: st.DataObject, revision: int) -> None:
        receipt = self.receipts.get(attempt_id)
        if receipt is None:
            return
        spent = tuple(data.draw(st.integers(0, entry.amount + 5)) for entry in receipt.entries)
        self.overspent |= any(now > entry.amount for now, entry in zip(spent, receipt.entries, strict=True))
        settled = Settled(attempt_id, revision, "Reported", receipt, spent)
        self.run(self.ledger.settle([settled]))
        self.model.settle(settled)

    @rule(attempt_id=attempts)
    def release(self, attempt_id: str) -> None:
        receipt = self.receipts.get(attempt_id)
        if receipt is not None:
            settled = Settled(attempt_id, 1, "Released", receipt, (0,) * len(receipt.entries))
            self.run(self.ledger.settle([settled, settled]))
            self.model.settle(settled)

    @rule(attempt_id=attempts)
    def settle_what_is_unknown(self, attempt_id: str) -> None:
        receipt = self.receipts.get(attempt_id)
        if receipt is not None:
            unknown = replace(receipt, attempt_id=f"{attempt_id}-lost")
            settled = Settled(unknown.attempt_id, 1, "Counted", unknown, tuple(e.amount for e in unknown.entries))
            self.overspent = True
            self.run(self.ledger.settle([settled]))
            self.model.settle(settled)

    @rule(attempt_id=attempts)
    def abandon(self, attempt_id: str) -> None:
        self.run(self.ledger.abandon([attempt_id]))
        self.model.abandon(attempt_id)

    @rule()
    def abandon_before_it_comes(self) -> None:
        attempt_id = f"late-{self.turn}"
        self.run(self.ledger.abandon([attempt_id]))
        self.model.abandon(attempt_id)
        self.reserve(ReserveRequest(attempt_id, (), (Option(1, 0),), LEASE_MS))

    @rule(attempt_id=attempts)
    def renew(self, attempt_id: str) -> None:
        gone = self.run(self.ledger.renew([attempt_id], LEASE_MS))
        assert (attempt_id not in gone) == self.model.renew(attempt_id, LEASE_MS, self.now_ms)

    @rule(attempt_id=attempts)
    def let_the_lease_end(self, attempt_id: str) -> None:
        self.run(self.ledger.renew([attempt_id], 1))
        self.model.renew(attempt_id, 1, self.now_ms)
        self.backend.pass_time(5)
        self.now_ms += 5
        gone = self.run(self.ledger.renew([attempt_id], LEASE_MS))
        assert gone == {attempt_id}
        self.model.expire(self.now_ms)

    @rule(limit=st.integers(0, 400))
    def change_the_amount(self, limit: int) -> None:
        self.overspent |= limit < self.limit
        self.limit = limit

    @rule()
    def begin_another_window(self) -> None:
        self.window = 1 - self.window

    @invariant()
    def every_account_says_what_the_model_says(self) -> None:
        span = WINDOWS[self.window]
        claims = [
            Claim("b|day|", span, Measure.MONEY, self.limit),
            Claim("b|rolling|t", DAYS, Measure.MONEY, 300),
            Claim("b|watched|", span, Measure.MONEY, 50),
            *(Claim(f"u|{name}|slots", Held(), Measure.SLOTS, 3) for name in "ab"),
            *(Claim(f"u|{name}|tokens", DAYS, Measure.TOKENS, 400) for name in "ab"),
        ]
        usages = self.run(self.ledger.usage(claims))
        assert [usage.account for usage in usages] == [claim.account for claim in claims]
        for claim, usage in zip(claims, usages, strict=True):
            assert (usage.spent, usage.reserved) == self.model.used(claim, self.now_ms), claim.account
            if not self.overspent and claim.account != "b|watched|":
                assert usage.spent + usage.reserved <= claim.limit + (40 if claim.account == "b|rolling|t" else 0)

    def teardown(self) -> None:
        for ledger in self.ledgers:
            self.run(ledger.close())


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    # Hypothesis asks for a fresh ledger often, so the servers are started once and not in the test's own directory.
    with tempfile.TemporaryDirectory() as directory, BACKENDS[request.param](Path(directory)) as running:
        yield running


def test_a_ledger_does_what_the_model_does(backend: Backend) -> None:
    loop = asyncio.new_event_loop()
    machine = type("Machine", (LedgerMachine,), {"backend": backend, "loop": loop})
    examples = EXAMPLES if settings().derandomize else settings().max_examples
    limits = settings(max_examples=examples, stateful_step_count=30, suppress_health_check=list(HealthCheck))
    with contextlib.closing(loop):
        run_state_machine_as_test(machine, settings=limits)
