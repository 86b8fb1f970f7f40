"""What every ledger promises, asked of each real backend."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.ledgers import BACKENDS, FAR_MS, Backend

from foresail_sidecar.ledger.interface import (
    MOST,
    MOST_BUDGETS,
    MOST_OPTIONS,
    Abandoned,
    CalendarSpan,
    Claim,
    Denied,
    Granted,
    Held,
    Ledger,
    LedgerUnavailable,
    Measure,
    Option,
    Receipt,
    ReserveRequest,
    RollingSpan,
    Settled,
    Usage,
    WindowsOutdated,
)

LEASE_MS = 60_000
MONTH = CalendarSpan(((1_000, FAR_MS),))


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    directory: Path = tmp_path_factory.mktemp("ledgers")
    with BACKENDS[request.param](directory) as running:
        yield running


@dataclass
class Two:
    """Two openings of one fresh ledger, as two processes would have."""

    first: Ledger
    second: Ledger
    backend: Backend
    numbers: list[int] = field(default_factory=list)

    async def reserve(
        self, *budgets: Claim, wanted: int, least: int | None = None, lease_ms: int = LEASE_MS
    ) -> Granted:
        answer = await self.first.reserve(self.request(*budgets, options=(option(wanted, least),), lease_ms=lease_ms))
        assert isinstance(answer, Granted)
        return answer

    def request(self, *budgets: Claim, options: tuple[Option, ...], lease_ms: int = LEASE_MS) -> ReserveRequest:
        self.numbers.append(len(self.numbers))
        return ReserveRequest(f"attempt-{self.numbers[-1]}", budgets, options, lease_ms)

    async def used(self, *claims: Claim) -> list[tuple[int, int]]:
        """Spent and reserved of each claim's account, as the other opening sees them."""
        return [(usage.spent, usage.reserved) for usage in await self.second.usage(claims)]


@pytest.fixture
async def two(backend: Backend) -> AsyncIterator[Two]:
    uid = uuid.uuid4().hex
    both = Two(backend.open(uid), backend.open(uid), backend)
    await until_open(both.first)
    yield both
    await both.first.close()
    await both.second.close()


async def until_open(ledger: Ledger) -> None:
    status = await ledger.status()
    if status.opens_ms is not None:
        await asyncio.sleep((status.opens_ms - status.now_ms + 50) / 1000)


def budget(limit: int, name: str = "b|month|", **more: object) -> Claim:
    return Claim(name, MONTH, Measure.MONEY, limit, **more)  # type: ignore[arg-type]


def option(wanted: int, least: int | None = None, **more: object) -> Option:
    return Option(wanted, wanted if least is None else least, **more)  # type: ignore[arg-type]


def settled(receipt: Receipt, *amounts: int, revision: int = 1) -> Settled:
    return Settled(receipt.attempt_id, revision, "Reported", receipt, amounts)


async def test_reserved_money_is_spent_when_it_is_settled(two: Two) -> None:
    granted = await two.reserve(budget(100), wanted=60)
    assert await two.used(budget(100)) == [(0, 60)]
    assert [(usage.spent, usage.reserved) for usage in granted.usages] == [(0, 60)]
    (usage,) = await two.first.settle([settled(granted.receipt, 45)])
    assert (usage.account, usage.slot_ms, usage.spent, usage.reserved) == ("b|month|", 1_000, 45, 0)
    assert await two.used(budget(100)) == [(45, 0)]


async def test_a_short_budget_lowers_the_grant_and_then_denies_it(two: Two) -> None:
    await two.reserve(budget(100), wanted=60)
    assert (await two.reserve(budget(100), wanted=60, least=10)).amount == 40
    denied = await two.second.reserve(two.request(budget(100), options=(option(5),)))
    assert isinstance(denied, Denied)
    (short,) = denied.shortages
    assert (short.limit, short.spent, short.reserved, short.needed, short.ends_ms) == (100, 0, 100, 5, FAR_MS)
    assert await two.used(budget(100)) == [(0, 100)]


async def test_budgets_are_taken_from_all_together_or_not_at_all(two: Two) -> None:
    wide, narrow = budget(100), budget(10, "b|tenant|t")
    denied = await two.first.reserve(two.request(wide, narrow, options=(option(20),)))
    assert isinstance(denied, Denied)
    assert [short.account for short in denied.shortages] == ["b|tenant|t"]
    assert {usage.account for usage in denied.usages} == {"b|month|", "b|tenant|t"}
    assert await two.used(wide, narrow) == [(0, 0), (0, 0)]
    assert (await two.reserve(wide, narrow, wanted=20, least=1)).amount == 10
    assert await two.used(wide, narrow) == [(0, 10), (0, 10)]


async def test_the_first_option_that_fits_is_taken(two: Two) -> None:
    full = Claim("u|m|a|slots", Held(), Measure.SLOTS, 0, amount=1)
    spare = Claim("u|m|b|slots", Held(), Measure.SLOTS, 1, amount=1)
    options = (option(90), option(30, claims=(full,)), option(20, claims=(spare,)))
    granted = await two.first.reserve(two.request(budget(50), options=options))
    assert isinstance(granted, Granted)
    assert (granted.option, granted.amount) == (2, 20)
    assert await two.used(budget(50), full, spare) == [(0, 20), (0, 0), (0, 1)]
    denied = await two.first.reserve(two.request(budget(50), options=options))
    assert isinstance(denied, Denied)
    assert [(short.option, short.account) for short in denied.shortages] == [
        (0, "b|month|"),
        (1, "u|m|a|slots"),
        (2, "u|m|b|slots"),
    ]


async def test_of_the_most_options_and_budgets_the_last_may_fit(two: Two) -> None:
    budgets = tuple(budget(100, f"b|{number}|") for number in range(MOST_BUDGETS))
    busy = Claim("u|m|up|slots", Held(), Measure.SLOTS, 0, amount=1)
    options = (*(option(100 + number, claims=(busy,)) for number in range(1, MOST_OPTIONS)), option(90))
    granted = await two.first.reserve(two.request(*budgets, options=options))
    assert isinstance(granted, Granted)
    assert (granted.option, granted.amount) == (MOST_OPTIONS - 1, 90)
    denied = await two.second.reserve(two.request(*budgets, options=options))
    assert isinstance(denied, Denied)
    assert {shortage.option for shortage in denied.shortages} == set(range(MOST_OPTIONS))


async def test_options_may_claim_different_amounts_of_one_account(two: Two) -> None:
    long, short = (Claim("u|m|a|tokens", MONTH, Measure.TOKENS, 100, amount=amount) for amount in (80, 30))
    options = (option(90, claims=(long,)), option(20, claims=(short,)))
    granted = await two.first.reserve(two.request(budget(50), options=options))
    assert isinstance(granted, Granted)
    assert (granted.option, [entry.amount for entry in granted.receipt.entries]) == (1, [20, 30])
    assert await two.used(budget(50), short) == [(0, 20), (0, 30)]
    denied = await two.first.reserve(two.request(options=(option(0, claims=(long,)), option(0, claims=(long,)))))
    assert isinstance(denied, Denied)
    assert [(each.needed, each.spent + each.reserved) for each in denied.shortages] == [(80, 30), (80, 30)]


async def test_only_an_option_that_may_overdraw_does(two: Two) -> None:
    claim = budget(100, overdraft=50)
    await two.reserve(claim, wanted=100)
    answer = await two.first.reserve(two.request(claim, options=(option(30), option(40, overdraws=True))))
    assert isinstance(answer, Granted)
    assert (answer.option, answer.amount) == (1, 40)
    denied = await two.first.reserve(two.request(claim, options=(option(30, overdraws=True),)))
    assert isinstance(denied, Denied)
    assert denied.shortages[0].limit == 150


async def test_what_is_observed_counts_and_never_refuses(two: Two) -> None:
    claim = budget(10, enforced=False)
    assert (await two.reserve(claim, wanted=25)).amount == 25
    assert await two.used(claim) == [(0, 25)]


async def test_what_costs_nothing_fits_an_exhausted_budget(two: Two) -> None:
    await two.reserve(budget(10), wanted=10)
    assert (await two.reserve(budget(0), wanted=0)).amount == 0
    assert (await two.reserve(budget(0), wanted=5, least=0)).amount == 0


async def test_a_new_amount_applies_at_once_and_keeps_what_was_used(two: Two) -> None:
    await two.reserve(budget(100), wanted=80)
    assert isinstance(await two.first.reserve(two.request(budget(70), options=(option(1),))), Denied)
    assert (await two.reserve(budget(200), wanted=120)).amount == 120


async def test_a_reservation_that_is_asked_for_twice_is_one(two: Two) -> None:
    request = two.request(budget(100), options=(option(60),))
    once = await two.first.reserve(request)
    again = await two.second.reserve(request)
    assert isinstance(once, Granted)
    assert isinstance(again, Granted)
    assert (again.receipt, again.option, again.amount) == (once.receipt, once.option, once.amount)
    assert await two.used(budget(100)) == [(0, 60)]
    await two.first.settle([settled(once.receipt, 10)])
    repeated = await two.first.reserve(request)
    assert isinstance(repeated, Granted)
    assert repeated.receipt == once.receipt
    assert await two.used(budget(100)) == [(10, 0)]


async def test_settlements_are_counted_once_and_a_higher_revision_corrects(two: Two) -> None:
    receipt = (await two.reserve(budget(100), wanted=60)).receipt
    await two.first.settle([settled(receipt, 50), settled(receipt, 50)])
    await two.second.settle([settled(receipt, 99)])
    assert await two.used(budget(100)) == [(50, 0)]
    await two.second.settle([settled(receipt, 20, revision=2)])
    assert await two.used(budget(100)) == [(20, 0)]
    await two.first.settle([settled(receipt, 90, revision=1)])
    assert await two.used(budget(100)) == [(20, 0)]


async def test_a_settlement_of_what_the_ledger_never_saw_is_spend_once(two: Two) -> None:
    seen = (await two.reserve(budget(100), wanted=60)).receipt
    unseen = Receipt("elsewhere", seen.generation, seen.entries)
    await two.first.settle([settled(unseen, 7)])
    await two.first.settle([settled(unseen, 7)])
    assert await two.used(budget(100)) == [(7, 60)]


async def test_an_upstream_may_report_more_than_was_reserved(two: Two) -> None:
    receipt = (await two.reserve(budget(100), wanted=60)).receipt
    await two.first.settle([settled(receipt, 130)])
    assert await two.used(budget(100)) == [(130, 0)]
    denied = await two.first.reserve(two.request(budget(100), options=(option(9, 1),)))
    assert isinstance(denied, Denied)
    assert (await two.reserve(budget(100), wanted=9, least=0)).amount == 0


async def test_an_abandoned_reservation_is_given_back_and_cannot_come_later(two: Two) -> None:
    request = two.request(budget(100), options=(option(60),))
    await two.first.reserve(request)
    await two.first.abandon([request.attempt_id, "late"])
    assert await two.used(budget(100)) == [(0, 0)]
    with pytest.raises(Abandoned):
        await two.second.reserve(request)
    with pytest.raises(Abandoned):
        await two.second.reserve(ReserveRequest("late", (budget(100),), (option(1),), LEASE_MS))


async def test_what_has_ended_cannot_be_abandoned(two: Two) -> None:
    receipt = (await two.reserve(budget(100), wanted=60)).receipt
    await two.first.settle([settled(receipt, 33)])
    await two.first.abandon([receipt.attempt_id])
    assert await two.used(budget(100)) == [(33, 0)]


async def test_what_was_abandoned_too_late_is_given_back_after_its_lease(two: Two) -> None:
    slots = Claim("u|m|a|slots", Held(), Measure.SLOTS, 5, amount=1)
    request = two.request(budget(100), options=(option(60, claims=(slots,)),), lease_ms=50)
    await two.first.reserve(request)
    two.backend.pass_time(60)
    await two.second.renew((), LEASE_MS)
    assert await two.used(budget(100), slots) == [(60, 0), (0, 0)]
    await two.first.abandon([request.attempt_id])
    await two.first.abandon([request.attempt_id])
    assert await two.used(budget(100), slots) == [(0, 0), (0, 0)]
    with pytest.raises(Abandoned):
        await two.first.reserve(request)


async def test_a_lease_that_nobody_renews_becomes_spend_and_a_late_settlement_corrects_it(two: Two) -> None:
    slots = Claim("u|m|a|slots", Held(), Measure.SLOTS, 5, amount=1)
    request = two.request(budget(100), options=(option(60, claims=(slots,)),), lease_ms=50)
    granted = await two.first.reserve(request)
    assert isinstance(granted, Granted)
    two.backend.pass_time(60)
    assert await two.first.renew((), LEASE_MS) == frozenset()
    assert await two.used(budget(100), slots) == [(60, 0), (0, 0)]
    assert await two.first.renew([granted.receipt.attempt_id], LEASE_MS) == {granted.receipt.attempt_id}
    await two.first.settle([settled(granted.receipt, 15, 0)])
    assert await two.used(budget(100), slots) == [(15, 0), (0, 0)]


async def test_reserving_ends_the_leases_of_others(two: Two) -> None:
    await two.reserve(budget(100), wanted=60, lease_ms=50)
    two.backend.pass_time(60)
    await two.second.reserve(two.request(budget(100), options=(option(1),)))
    assert await two.used(budget(100)) == [(60, 1)]


async def test_a_renewed_lease_goes_on(two: Two) -> None:
    receipt = (await two.reserve(budget(100), wanted=60, lease_ms=1_500)).receipt
    assert await two.second.renew([receipt.attempt_id, "unknown"], LEASE_MS) == {"unknown"}
    two.backend.pass_time(1_600)
    await two.first.renew((), LEASE_MS)
    assert await two.used(budget(100)) == [(0, 60)]


async def test_windows_that_do_not_hold_the_ledgers_present_change_nothing(two: Two) -> None:
    past = Claim("b|month|", CalendarSpan(((1_000, 2_000),)), Measure.MONEY, 100)
    with pytest.raises(WindowsOutdated) as refused:
        await two.first.reserve(two.request(past, options=(option(1),)))
    assert refused.value.now_ms == (await two.first.status()).now_ms or refused.value.now_ms > 2_000
    with pytest.raises(WindowsOutdated):
        await two.first.usage([past])


async def test_a_request_belongs_to_the_window_that_admitted_it(two: Two) -> None:
    receipt = (await two.reserve(budget(100), wanted=60)).receipt
    next_month = Claim("b|month|", CalendarSpan(((1_000, 2_000), (2_000, FAR_MS))), Measure.MONEY, 100)
    assert await two.used(next_month) == [(0, 0)]
    await two.first.settle([settled(receipt, 45)])
    assert await two.used(next_month, budget(100)) == [(0, 0), (45, 0)]


async def test_a_rolling_window_counts_its_span_and_lets_go_of_what_is_older(two: Two) -> None:
    rolling = Claim("u|m|a|requests", RollingSpan(1_600, 400), Measure.REQUESTS, 2, amount=1)
    requests = [two.request(options=(option(0, claims=(rolling,)),)) for _ in range(3)]
    answers = [await two.first.reserve(request) for request in requests]
    assert [type(answer) for answer in answers] == [Granted, Granted, Denied]
    last = answers[2]
    assert isinstance(last, Denied)
    ends = last.shortages[0].ends_ms
    assert ends is not None
    assert last.now_ms < ends <= last.now_ms + 2_000
    assert isinstance(answers[0], Granted)
    assert answers[0].receipt.entries[0].rolling
    assert await two.first.settle([settled(answers[0].receipt, 1)]) == ()
    assert await two.used(rolling) == [(1, 1)]
    two.backend.pass_time(2_100)
    assert await two.used(rolling) == [(0, 0)]
    assert isinstance(await two.first.reserve(two.request(options=(option(0, claims=(rolling,)),))), Granted)


async def test_amounts_are_exact_up_to_the_largest(two: Two) -> None:
    claim = budget(MOST)
    granted = await two.reserve(claim, wanted=2**50 - 1)
    await two.first.settle([settled(granted.receipt, MOST - 1)])
    assert await two.used(claim) == [(MOST - 1, 0)]
    assert (await two.reserve(claim, wanted=5, least=1)).amount == 1
    unseen = Receipt("more", granted.receipt.generation, granted.receipt.entries)
    await two.first.settle([settled(unseen, MOST)])
    assert await two.used(claim) == [(MOST, 1)]


async def test_names_are_kept_as_they_are(two: Two) -> None:
    odd = budget(100, "b|naïve budget%7C|t:{x}")
    await two.reserve(odd, wanted=10)
    assert await two.used(odd) == [(0, 10)]


async def test_many_at_once_never_get_more_than_there_is(two: Two) -> None:
    claim = budget(300)

    async def ask(number: int) -> Granted | Denied:
        ledger = (two.first, two.second)[number % 2]
        return await ledger.reserve(ReserveRequest(f"many-{number}", (claim,), (option(10),), LEASE_MS))

    answers = await asyncio.gather(*(ask(number) for number in range(100)))
    assert sum(isinstance(answer, Granted) for answer in answers) == 30
    assert await two.used(claim) == [(0, 300)]


async def test_every_change_raises_the_sequence_and_refusals_do_not(two: Two) -> None:
    before: tuple[Usage, ...] = (await two.reserve(budget(100), wanted=60)).usages
    denied = await two.first.reserve(two.request(budget(100), options=(option(50),)))
    assert isinstance(denied, Denied)
    assert denied.usages == before
    after = (await two.reserve(budget(100), wanted=10)).usages
    assert after[0].sequence > before[0].sequence
    assert (await two.second.status()).sequence >= after[0].sequence


async def test_notes_are_kept(two: Two) -> None:
    assert await two.first.read_note("calibration") is None
    await two.first.write_note("calibration", '{"m": 1}')
    await two.first.write_note("calibration", '{"m": 2}')
    assert await two.second.read_note("calibration") == '{"m": 2}'


async def test_a_closed_ledger_answers_that_it_is_unavailable(backend: Backend) -> None:
    ledger = backend.open(uuid.uuid4().hex)
    await ledger.status()
    await ledger.close()
    with pytest.raises(LedgerUnavailable):
        await ledger.status()


def test_a_request_cannot_be_made_of_nonsense() -> None:
    claim = budget(1)
    with pytest.raises(ValueError, match="least <= wanted"):
        option(1, 2)
    with pytest.raises(ValueError, match="only once"):
        ReserveRequest("x", (claim,), (option(1, claims=(claim,)),), LEASE_MS)
    with pytest.raises(ValueError, match=f"1 to {MOST_OPTIONS} options"):
        ReserveRequest("x", (claim,), (), LEASE_MS)
    with pytest.raises(ValueError, match="at most 8 budgets"):
        ReserveRequest("x", tuple(budget(1, str(n)) for n in range(9)), (option(1),), LEASE_MS)
    with pytest.raises(ValueError, match="one amount for each entry"):
        Settled("x", 1, "Reported", Receipt("x", 1, ()), (1,))
