"""The file of an embedded ledger: its tables, how it is opened, and whether what it acknowledges survives a crash.

Owns the layout on disk. It must not know what operations do with it.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from foresail_api.errors import UserError

FORMAT: Final = 1
_APPLICATION_ID: Final = 0x466F726C
_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "overlay"})
_MOUNTS: Final = Path("/proc/self/mounts")

# What a ledger that lost data was told of a slot: what was spent and reserved (`lost`) before the loss, the sequence of
# that knowledge, and how much of what was reserved lives on (`claimed`). It stays, for who tells late. The two indexes
# over attempts serve the expiry of leases and the end of records.
_TABLES: Final = """
CREATE TABLE ledger (
    one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL, generation INTEGER NOT NULL,
    sequence INTEGER NOT NULL, opens INTEGER
);
CREATE TABLE usage (
    account TEXT NOT NULL, slot INTEGER NOT NULL, spent INTEGER NOT NULL, reserved INTEGER NOT NULL, ends INTEGER,
    sequence INTEGER NOT NULL, told_spent INTEGER NOT NULL, told_sequence INTEGER NOT NULL, lost INTEGER NOT NULL,
    claimed INTEGER NOT NULL, kept_until INTEGER,
    PRIMARY KEY (account, slot)
) WITHOUT ROWID;
CREATE INDEX usage_kept ON usage (kept_until) WHERE kept_until IS NOT NULL;
CREATE TABLE attempt (
    id TEXT PRIMARY KEY, state INTEGER NOT NULL, revision INTEGER NOT NULL, basis TEXT NOT NULL, option INTEGER NOT NULL,
    granted INTEGER NOT NULL, generation INTEGER NOT NULL, due INTEGER NOT NULL, entries TEXT NOT NULL,
    amounts TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX attempt_leases ON attempt (due) WHERE state = 0;
CREATE INDEX attempt_records ON attempt (due) WHERE state != 0;
CREATE TABLE note (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
"""


def ledger_path(directory: Path, uid: str) -> Path:
    """Return where the ledger of a policy lies in a state directory."""
    return directory / f"ledger-{hashlib.sha256(uid.encode()).hexdigest()[:16]}.sqlite3"


def connect(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Open the ledger, and make it if there is none.

    Raises:
        sqlite3.Error: it cannot be opened, or is not a ledger of this format.
    """
    connection = sqlite3.connect(
        path, timeout=busy_seconds, isolation_level=None, cached_statements=64, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # With FULL every commit reaches the disk before it is acknowledged.
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def check_usable(path: Path) -> None:
    """Try the file once, so that a start with a wrong one is refused with a remedy.

    Raises:
        UserError: it cannot be made or opened, or is no ledger of this format.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(connect(path, busy_seconds=10.0)):
            pass
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"cannot open the ledger {str(path)!r}: {error}. Give a directory on a local disk that can be written, "
            "or move this file away to start with an empty ledger"
        ) from None


def volatile_file_system(directory: Path) -> str | None:
    """Return the type of the directory's file system if what is written there is lost with the machine or container;
    None if it is kept, or where the system does not say.
    """
    try:
        mounts = [line.split(" ") for line in _MOUNTS.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    resolved = directory.resolve()
    around = [(Path(where.replace(r"\040", " ")), kind) for _, where, kind, *_ in mounts]
    holding = [(where, kind) for where, kind in around if resolved.is_relative_to(where)]
    # Of several mounts over one place the last one is visible.
    kind = max(enumerate(holding), key=lambda each: (len(each[1][0].parts), each[0]))[1][1] if holding else ""
    return kind if kind in _VOLATILE else None


def _migrate(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == FORMAT:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have made it while this one waited for the lock.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise sqlite3.DatabaseError("file is a database of something else")
            _create(connection)
        elif version != FORMAT:
            raise sqlite3.DatabaseError(f"ledger has format {version}, but this version reads format {FORMAT}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute("INSERT INTO ledger VALUES (1, ?, 1, 0, NULL)", (secrets.token_hex(16),))
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
