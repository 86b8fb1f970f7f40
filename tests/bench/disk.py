"""What a durable commit costs on the disk of the run: one row, SQLite's write-ahead log, synced. It must not know who commits what."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from tests.bench.figures import quantile


def commit_milliseconds(folder: Path, commits: int) -> tuple[float, float]:
    """Return the p50 and p99, in milliseconds, of so many commits of one row each in a new file of the folder."""
    path = folder / f"commits-{time.monotonic_ns()}.sqlite3"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, said TEXT)")
        took = [_commit(connection, number) for number in range(commits)]
    finally:
        connection.close()
    return quantile(took, 0.5), quantile(took, 0.99)


def _commit(connection: sqlite3.Connection, number: int) -> float:
    began = time.perf_counter()
    connection.execute("INSERT INTO row VALUES (?, ?)", (number, f"attempt {number}"))
    return 1000 * (time.perf_counter() - began)
