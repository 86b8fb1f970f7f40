"""Moves what was committed from the log of a ledger into its file, beside the commits instead of inside of one.

Owns a thread, and a connection for each of its rounds. It must not know what is committed. By itself SQLite does this at the end of a
commit, every thousand pages: that commit, and all who wait for it, took as long as several.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Final

from foresail_sidecar.telemetry.logs import log_defect

_LOGGER = logging.getLogger(__name__)

_COMMITS_IN_A_ROUND: Final = 500
# A process that shares the file ends its turn within that time, or the log begins anew in a later round.
_PATIENCE_MS: Final = 10
_END_SECONDS: Final = 5.0


class Checkpoints:
    """Rounds for the ledger at `path`. All but `_run` belongs to the thread that commits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changes = 0
        self._commits = 0
        self._begun = threading.Event()
        self._under_way = False
        self._over = False
        self._moved = False
        self._ends = False
        self._thread: threading.Thread | None = None

    def take_over(self, connection: sqlite3.Connection) -> None:
        """Keep a connection that commits from moving the log by itself."""
        connection.execute("PRAGMA wal_autocheckpoint = 0")

    def committed(self, connection: sqlite3.Connection) -> None:
        """Count a commit that wrote. There are rounds of two steps: almost all is moved while others commit, the rest while nobody does.

        Only a log that was moved to its very end begins anew. The second step takes as long as two commits. No first step follows
        another one, nor begins on a log that was moved to its end: releases of SQLite before 3.51.3 can then take new commits for
        moved ones (https://sqlite.org/wal.html#the_wal_reset_bug).
        """
        changes, self._changes = self._changes, connection.total_changes
        self._commits += changes != self._changes
        if self._over:
            self._under_way = self._over = False
            if self._moved:
                _begin_anew(connection)
        elif self._commits >= _COMMITS_IN_A_ROUND and not self._under_way:
            self._commits = 0
            self._under_way = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="foresail-ledger-log", daemon=True)
                self._thread.start()
            self._begun.set()

    def close(self) -> None:
        """Wait for the end of a round, and begin no other one."""
        self._ends = True
        self._begun.set()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while True:
            self._begun.wait()
            self._begun.clear()
            if self._ends:
                return
            self._moved = False
            try:
                self._move()
                self._moved = True
            except sqlite3.Error:
                pass  # what could not be moved is there in the next round
            except Exception as error:
                log_defect(_LOGGER, "the log of a ledger was not moved", error)
            self._over = True

    def _move(self) -> None:
        # Another connection each time, because the file may have been replaced; one that is gone is not made again.
        file = f"{self._path.absolute().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(file, uri=True, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _begin_anew(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
    try:
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    finally:
        connection.execute("PRAGMA busy_timeout = 0")
