"""Which ledger is used while configurations come and go: kept where nothing of it changed, closed when nobody needs it any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.ledgers import LedgerCounts
from tests.support.serving import eventually
from tests.support.sidecar import model_of, snapshot_of, state_of, upstream_of

from foresail_api.budgets import CalendarUnit
from foresail_api.errors import UserError
from foresail_api.ledgers import LedgerType
from foresail_api.snapshot_budgets import SnapshotBudget, SnapshotLedger
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.ledger.interface import LedgerError
from foresail_sidecar.serving import ledgers as module
from foresail_sidecar.serving.ledgers import Ledgers, default_directory

REDIS = SnapshotLedger(
    type=LedgerType.REDIS,
    url="redis://127.0.0.1:1",
    secret_name="ledger",
    secret_key="password",
    timeout_milliseconds=50,
)


def served(amount: int | None = 100, password: str | None = None, **changes: Any) -> ServingState:
    budgets = () if amount is None else (_budget(amount),)
    snapshot = snapshot_of(model_of("m", upstream_of("http://127.0.0.1:1/v1")), budgets=budgets, **changes)
    return state_of(snapshot, credentials={} if password is None else {("ledger", "password"): password})


def _budget(amount: int) -> SnapshotBudget:
    return SnapshotBudget(name="team", amount_nano_dollars=amount, calendar=CalendarUnit.DAY, rolling_seconds=None)


@pytest.fixture
async def ledgers(tmp_path: Path) -> AsyncIterator[Ledgers]:
    opened = Ledgers(tmp_path / "state", LedgerCounts())
    yield opened
    await opened.aclose()


async def test_a_new_amount_keeps_the_ledger(ledgers: Ledgers) -> None:
    await ledgers.prepare(served(100))
    await ledgers.prepare(served(200))
    assert ledgers.of(served(100)) is ledgers.of(served(200)) is not None


async def test_another_policy_has_a_ledger_of_its_own_in_the_same_directory(ledgers: Ledgers, tmp_path: Path) -> None:
    await ledgers.prepare(served())
    await ledgers.prepare(served(policy_uid="another"))
    assert ledgers.of(served()) is not ledgers.of(served(policy_uid="another"))
    assert len(list((tmp_path / "state").glob("ledger-*.sqlite3"))) == 2


async def test_a_new_password_is_a_new_client(ledgers: Ledgers) -> None:
    old, new = served(ledger=REDIS, password="old"), served(ledger=REDIS, password="new")
    await ledgers.prepare(old)
    await ledgers.prepare(new)
    assert ledgers.of(old) is not ledgers.of(new)


async def test_without_budgets_there_is_no_ledger_but_a_place_for_notes(ledgers: Ledgers) -> None:
    await ledgers.prepare(served(None))
    assert ledgers.of(served(None)) is None
    notes = ledgers.notes_of(served(None))
    assert notes is not None
    assert await notes.read_note("any") is None


async def test_notes_outlive_the_day_on_which_a_budget_comes(ledgers: Ledgers) -> None:
    await ledgers.prepare(served(None))
    first = ledgers.notes_of(served(None))
    assert first is not None
    first.write_note("any", "kept")
    await ledgers.prepare(served(100))
    with_budget = ledgers.notes_of(served(100))
    assert with_budget is ledgers.of(served(100)) is not None

    async def kept() -> bool:
        return await with_budget.read_note("any") == "kept"

    await eventually(kept, "the note is written")


@pytest.mark.parametrize("amount", [None, 100])
async def test_a_directory_that_cannot_be_used_prevents_a_start_only_where_a_ledger_is_needed(
    amount: int | None, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no directory")
    ledgers = Ledgers(tmp_path / "file" / "state", LedgerCounts())
    if amount is None:
        await ledgers.prepare(served(amount))
        assert ledgers.notes_of(served(amount)) is None
    else:
        with pytest.raises(UserError, match="choose another --state"):
            await ledgers.prepare(served(amount))
    await ledgers.aclose()


async def test_a_redis_that_is_not_there_is_no_failed_start(ledgers: Ledgers) -> None:
    await ledgers.prepare(served(ledger=REDIS))
    client = ledgers.of(served(ledger=REDIS))
    assert client is not None
    with pytest.raises(LedgerError):
        await client.usage([])


async def test_a_replaced_ledger_is_closed_and_one_that_comes_back_in_time_is_not(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETIREMENT_SECONDS", 0.2)
    await ledgers.prepare(served())
    first = ledgers.of(served())
    await ledgers.prepare(served(None))
    await ledgers.prepare(served())
    await asyncio.sleep(0.4)
    assert ledgers.of(served()) is first
    await ledgers.prepare(served(None))
    async with asyncio.timeout(20):
        while ledgers.of(served()) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_file_that_is_no_ledger_is_told_and_what_was_open_stays(ledgers: Ledgers, tmp_path: Path) -> None:
    await ledgers.prepare(served())
    (ledger,) = (tmp_path / "state").glob("ledger-*.sqlite3")
    other = Ledgers(tmp_path / "other", LedgerCounts())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ledger.name).write_bytes(b"this is no database at all" * 100)
    with pytest.raises(UserError, match=ledger.name):
        await other.prepare(served())
    assert other.of(served()) is None
    await other.aclose()
    assert ledgers.of(served()) is not None


def test_the_default_directory_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_directory(served().snapshot) == tmp_path / "foresail" / "default.chat"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_directory(served().snapshot) == Path.home() / ".local" / "state" / "foresail" / "default.chat"
