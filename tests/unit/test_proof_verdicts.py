"""The proof's checks can fail: each is fed what is right, and then one thing that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.proof import faults, verdicts
from tests.proof.decisions import read_decisions
from tests.proof.journal import Journal, read_bills
from tests.proof.ledgers import Balance, Entry, Poll, Record, by_attempt
from tests.proof.run import main
from tests.proof.setting import LARGE, PROMPT_TOKENS, Price, dollars
from tests.proof.verdicts import Refusal, Verdict

ACCOUNT = "b|total|"
AMOUNTS = {ACCOUNT: 1000}
MINUTE = 60_000


def polls(*used: tuple[int, int]) -> list[Poll]:
    """Balances of the account, one second after the other."""
    return [Poll(float(second), {ACCOUNT: Balance(*both)}) for second, both in enumerate(used)]


def record(settled: int, basis: str = "Reported", *, state: str = "ended", slot: int = 0) -> Record:
    return Record(state, basis, (Entry(ACCOUNT, slot, 100, settled),))


def refusal(**changes: object) -> Refusal:
    usual = {
        "decision": "d",
        "seconds": 1.0,
        "reason": "BudgetReserved",
        "account": ACCOUNT,
        "spent": 500,
        "reserved": 450,
        "limit": 1000,
        "needed": 51,
        "least_worst": 80,
    }
    return Refusal(**(usual | changes))  # type: ignore[arg-type]


def fails(verdict: Verdict, *words: str) -> None:
    assert not verdict.passed
    assert all(word in "\n".join(verdict.offenders) for word in words), verdict.offenders


def test_a_balance_above_the_amount_at_a_single_poll_fails() -> None:
    assert verdicts.never_exceeded(polls((0, 0), (400, 600), (1000, 0)), AMOUNTS).passed
    fails(verdicts.never_exceeded(polls((0, 0), (400, 601), (1000, 0)), AMOUNTS), "reserved=601")


def test_a_ledger_that_was_never_read_proves_nothing() -> None:
    fails(verdicts.never_exceeded([], AMOUNTS), "never read")
    fails(verdicts.nothing_reserved(None, {}), "not read")
    fails(verdicts.balance_is_sum(None, by_attempt({"a": record(1)}), ACCOUNT))


def test_bills_above_the_amount_fail() -> None:
    assert verdicts.bills_within({"a": 400, "b": 600}, 1000).passed
    fails(verdicts.bills_within({"a": 400, "b": 601}, 1000), "1001")


def test_bills_of_one_rolling_window_above_its_amount_fail() -> None:
    def judged(second: int) -> Verdict:
        records = by_attempt({"a": record(600, slot=MINUTE), "b": record(600, slot=MINUTE + second)})
        return verdicts.windows_within({"a": 600, "b": 600}, records, ACCOUNT, 1000, span_ms=MINUTE, bucket_ms=1000)

    assert judged(MINUTE + 1000).passed
    fails(judged(MINUTE), "1200 nano-dollars of 1000")
    fails(judged(0))


@pytest.mark.parametrize(
    ("settled", "bill"),
    [
        (record(70), 70),
        (record(0), 0),
        (record(70, "Counted"), 70),
        (record(71, "Assumed"), 70),
        (record(100, "Expired"), None),
        (record(0, "Released"), None),
        (record(0, "", state="abandoned"), None),
    ],
)
def test_settlements_that_agree_with_bills(settled: Record, bill: int | None) -> None:
    bills = {} if bill is None else {"a": bill}
    assert verdicts.settled_as_billed(bills, by_attempt({"a": settled})).passed


@pytest.mark.parametrize(
    ("settled", "bill"),
    [
        (record(71), 70),
        (record(69), 70),
        (record(70), None),
        (record(69, "Counted"), 70),
        (record(69, "Assumed"), 70),
        (record(69, "Expired"), 70),
        (record(0, "Released"), 0),
        (record(0, "", state="abandoned"), 70),
        (record(0, "", state="reserved"), 70),
        (record(70, "Guessed"), 70),
        (None, 70),
    ],
)
def test_settlements_that_disagree_with_bills(settled: Record | None, bill: int | None) -> None:
    bills = {} if bill is None else {"a": bill}
    records = {} if settled is None else {"a": settled}
    fails(verdicts.settled_as_billed(bills, by_attempt(records)), "a ")


def test_an_attempt_that_went_on_without_its_reservation_is_judged_by_what_it_was_settled_at() -> None:
    records = {"a": record(0, "", state="abandoned"), "a-unreserved": record(70)}
    assert verdicts.settled_as_billed({"a": 70}, by_attempt(records)).passed
    fails(verdicts.settled_as_billed({"a": 71}, by_attempt(records)))


def test_shares_are_told_by_basis() -> None:
    records = by_attempt({"a": record(70), "b": record(100, "Assumed")})
    figures = verdicts.settled_as_billed({"a": 70, "b": 10}, records).figures
    assert "Reported 50.0 % of attempts" in figures
    assert "Assumed 50.0 % of attempts (0.000000 settled" in figures


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"reserved": 400}, "room"),
        ({"reserved": 449}, "room"),
        ({"least_worst": 50, "needed": 51}, "room"),
        ({"limit": 900}, "the amount is 1000"),
        ({"account": "b|other|"}, "the amount is None"),
        ({"reason": "BudgetExhausted"}, "only reserved"),
        ({"spent": 700}, "the ledger said"),
        ({"spent": 450, "reserved": 520}, "the ledger said"),
    ],
)
def test_a_refusal_with_room_or_with_other_figures_than_the_ledgers_fails(changes: dict[str, object], why: str) -> None:
    seen = polls((490, 0), (500, 450), (510, 0))
    assert verdicts.refusals_justified([refusal()], AMOUNTS, seen, 80).passed
    fails(verdicts.refusals_justified([refusal(**changes)], AMOUNTS, seen, 80), why)


def test_a_refusal_is_compared_with_the_polls_of_its_own_time() -> None:
    seen = [Poll(0.0, {ACCOUNT: Balance(0, 0)}), *(Poll(100.0 + n, {ACCOUNT: Balance(500, 450)}) for n in range(20))]
    assert verdicts.refusals_justified([refusal(seconds=110.0)], AMOUNTS, seen, 80).passed
    early = refusal(seconds=110.0, spent=400, reserved=550)
    fails(verdicts.refusals_justified([early], AMOUNTS, seen, 80), "around then")


def test_what_was_spent_just_before_a_window_moved_on_need_not_have_been_polled() -> None:
    higher = refusal(seconds=0.1, spent=560, reserved=420)
    fails(verdicts.refusals_justified([higher], AMOUNTS, polls((540, 430), (550, 430)), 80), "around then")
    assert verdicts.refusals_justified([higher], AMOUNTS, polls((550, 430), (300, 430)), 80).passed


def test_as_many_answers_as_the_budget_pays_and_no_other_number() -> None:
    assert verdicts.answered_exactly(300, 300, 300, 1000).passed
    fails(verdicts.answered_exactly(299, 300, 300, 1000), "299")
    fails(verdicts.answered_exactly(300, 301, 300, 1000), "301")


def test_almost_all_of_the_budget_must_be_spent() -> None:
    assert verdicts.spent_nearly_all(9_800, 10_000, 100).passed
    fails(verdicts.spent_nearly_all(9_799, 10_000, 100), "9799")


def test_fewer_clients_than_wanted_fail() -> None:
    assert verdicts.all_connected(1000, 1000).passed
    fails(verdicts.all_connected(999, 1000))


def test_what_is_left_reserved_fails_in_balances_and_in_attempts() -> None:
    clean = by_attempt({"a": record(1)})
    assert verdicts.nothing_reserved(polls((1, 0))[0], clean).passed
    fails(verdicts.nothing_reserved(polls((1, 1))[0], clean), ACCOUNT)
    fails(verdicts.nothing_reserved(polls((1, 0))[0], by_attempt({"b": record(0, "", state="reserved")})), "b")


def test_spend_that_no_attempt_explains_fails() -> None:
    records = by_attempt({"a": record(400), "b": record(600, "Assumed")})
    assert verdicts.balance_is_sum(polls((1000, 0))[0], records, ACCOUNT).passed
    fails(verdicts.balance_is_sum(polls((999, 0))[0], records, ACCOUNT), "999", "1000")


def test_memory_that_grows_is_not_flat() -> None:
    def judged(sizes: list[int]) -> Verdict:
        samples = {"replica": [(float(second), size) for second, size in enumerate(sizes)]}
        return verdicts.memory_is_flat(samples, percent=5, least_kibibytes=1000)

    assert judged([20_000] * 10 + [80_000] * 30).passed
    assert judged([80_000] * 20 + [84_000] * 20).passed
    fails(judged([80_000] * 20 + [84_100] * 20), "replica")
    fails(judged([60_000 + 1000 * second for second in range(40)]), "replica")
    fails(judged([80_000] * 3), "nothing")
    fails(verdicts.memory_is_flat({}, percent=5, least_kibibytes=1000), "survived")


def test_what_clients_must_not_get_fails() -> None:
    assert verdicts.served_enough({"200": 10, "502": 1}, least=10, forbidden=["503"]).passed
    fails(verdicts.served_enough({"200": 9}, least=10), "9 requests")
    fails(verdicts.served_enough({"200": 10, "503": 1}, least=10, forbidden=["503"]), "1 times 503")


def test_trouble_that_did_not_happen_and_refusals_that_were_not_logged_fail() -> None:
    assert verdicts.all_seen({"kills": 1}).passed
    fails(verdicts.all_seen({"kills": 1, "fallbacks": 0}), "fallbacks")
    outcomes = {"429 budget_reserved": 2, "429 budget_exhausted": 3, "429 upstream_rate_limited": 9}
    assert verdicts.all_logged(outcomes, 5).passed
    fails(verdicts.all_logged(outcomes, 4), "4 were logged")


def test_a_price_is_rounded_up_once() -> None:
    assert Price(1, 1, 1).nano(1, 0, 1) == 1
    assert Price(2000, 1000, 3000).nano(10, 4, 1) == 12 + 4 + 3
    assert LARGE.worst() == -(-(PROMPT_TOKENS * 910_007 + 200 * 3_333_337) // 1000)
    assert dollars(1_500_000_000) == "1.500000"


def test_a_stream_is_billed_by_its_last_line_and_an_attempt_that_was_sent_twice_twice(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.journal", Price(1000, 500, 2000))
    first, second = journal.accepted(), journal.accepted()
    journal.bill("x-1", first, 10, 0, 0)
    journal.bill("x-1", first, 10, 0, 5)
    journal.bill("y-1", second, 10, 4, 1)
    Journal(tmp_path / "b.journal", Price(1000, 500, 2000)).bill("x-1", "7.1", 1, 0, 0)
    paths = [tmp_path / "a.journal", tmp_path / "b.journal", tmp_path / "never.journal"]
    assert read_bills(paths) == {"x-1": 20 + 1, "y-1": 6 + 2 + 2}


def test_a_decision_log_with_a_torn_line_is_read(tmp_path: Path) -> None:
    line = (
        '{"time":"2026-03-01T00:00:01+00:00","decision_id":"d","outcome":"BudgetReserved","candidates":['
        '{"model":"small","eliminated":"OverBudget","worst_case_nano_dollars":80},'
        '{"model":"large","eliminated":null,"worst_case_nano_dollars":70}],'
        '"attempts":[{},{}],"budget_refusal":{"reason":"BudgetReserved","budget":"total","spent_nano_dollars":500,'
        '"reserved_nano_dollars":450,"limit_nano_dollars":1000,"needed_nano_dollars":51}}\n'
    )
    path = tmp_path / "log"
    path.write_text(line + line[:100] + "\n")
    found = read_decisions([path, tmp_path / "absent"])
    assert found.refusals == [refusal(seconds=1_772_323_201.0)]
    assert (found.torn, found.fallbacks, found.outcomes["BudgetReserved"]) == (1, 1, 1)


def test_a_schedule_follows_from_its_seed_and_begins_with_one_of_each_kind() -> None:
    planned = faults.schedule(7, 120, 5.0, faults.SHARED)
    assert planned == faults.schedule(7, 120, 5.0, faults.SHARED)
    assert planned != faults.schedule(8, 120, 5.0, faults.SHARED)
    assert {fault.kind for fault in planned[: len(faults.SHARED)]} == set(faults.SHARED)
    assert all(0 < fault.at < 120 for fault in planned)


def test_a_restart_of_everything_misses_nobody() -> None:
    planned = faults.restart_everything(7, 100, 4, 3)
    assert {fault.whom for fault in planned if "replica" in fault.kind} == {0, 1, 2, 3}
    assert {fault.whom for fault in planned if "upstream" in fault.kind} == {0, 1, 2}
    assert sum("Redis" in fault.kind for fault in planned) == 3
    assert max(fault.at for fault in planned) < 100


@pytest.mark.parametrize("arguments", [["--parts", "modell"], ["--parts", "outages", "--backend", "sqlite"]])
def test_what_does_not_run_is_not_proven(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[1] in capsys.readouterr().err
