"""Limits of upstreams over windows that move on, on each backend: random histories, step by step compared with the plain model."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.ledger_model import Attempt, LedgerModel
from tests.support.ledgers import BACKENDS, Backend

from foresail_sidecar.ledger.interface import (
    Claim,
    Denied,
    Held,
    Ledger,
    Measure,
    Option,
    Receipt,
    ReserveRequest,
    RollingSpan,
    Settled,
)

LEASE_MS = 3_600_000
STEPS = 60
PAUSES_MS = (1, 5, 20, 60, 250)


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with BACKENDS[request.param](tmp_path) as running:
        yield running


class History:
    """Attempts at one upstream through two openings of its ledger, and the model beside them."""

    def __init__(self, backend: Backend, seed: int) -> None:
        uid = uuid.uuid4().hex
        self.backend = backend
        self.ledgers: list[Ledger] = [backend.open(uid), backend.open(uid)]
        self.random = random.Random(seed)
        self.span = RollingSpan(self.random.choice([200, 300]), self.random.choice([20, 50]))
        self.model = LedgerModel()
        self.receipts: dict[str, Receipt] = {}

    def claims(self) -> tuple[Claim, ...]:
        tokens = self.random.choice([0, 10, 50, 120])
        every = (
            Claim("u|m|a|slots", Held(), Measure.SLOTS, 3, amount=1),
            Claim("u|m|a|requests", self.span, Measure.REQUESTS, 6, amount=1),
            Claim("u|m|a|tokens", self.span, Measure.TOKENS, 300, amount=tokens),
        )
        return tuple(self.random.sample(every, self.random.randint(1, 3)))

    async def step(self, number: int) -> None:
        ledger, what = self.random.choice(self.ledgers), self.random.random()
        if what < 0.5:
            await self.reserve(ledger, f"attempt-{number}")
        elif what < 0.85 and self.receipts:
            attempt_id = self.random.choice(list(self.receipts))
            if what < 0.8:
                await self.settle(ledger, attempt_id)
            else:
                await ledger.abandon([attempt_id])
                self.model.abandon(attempt_id)
        else:
            self.backend.pass_time(self.random.choice(PAUSES_MS))

    async def reserve(self, ledger: Ledger, attempt_id: str) -> None:
        options = tuple(Option(0, 0, claims=self.claims()) for _ in range(self.random.randint(1, 3)))
        request = ReserveRequest(attempt_id, (), options, LEASE_MS)
        answer = await ledger.reserve(request)
        expected = self.model.reserve(request, answer.now_ms)
        if not isinstance(answer, Denied):
            assert isinstance(expected, Attempt)
            assert (answer.option, answer.receipt.entries) == (expected.option, expected.entries)
            self.receipts[attempt_id] = answer.receipt
            return
        assert {(short.option, short.account) for short in answer.shortages} == expected
        for short in answer.shortages:
            claim = next(one for one in options[short.option].claims if one.account == short.account)
            assert (short.spent, short.reserved) == self.model.used(claim, answer.now_ms)

    async def settle(self, ledger: Ledger, attempt_id: str) -> None:
        receipt = self.receipts[attempt_id]
        amounts = tuple(self.random.choice([0, 1, one.amount // 2, one.amount]) for one in receipt.entries)
        settled = Settled(attempt_id, self.random.randint(1, 2), "Reported", receipt, amounts)
        await ledger.settle([settled])
        self.model.settle(settled)


@pytest.mark.parametrize("seed", range(8))
async def test_what_leaves_the_window_and_what_is_settled_in_it_counts_as_the_model_says(
    backend: Backend, seed: int
) -> None:
    history = History(backend, seed)
    for number in range(STEPS):
        await history.step(number)
    for ledger in history.ledgers:
        await ledger.close()
