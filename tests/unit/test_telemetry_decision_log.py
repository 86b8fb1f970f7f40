"""The decision log loses no line unless it must, counts those that it loses, and never holds up whoever writes one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from foresail_sidecar.telemetry.decision_log import DecisionLog


def lines_of(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_bytes().splitlines()]


def soon(check: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_every_line_is_written_in_order(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text('{"number":-1}\n')
    log = DecisionLog(path)
    for number in range(5000):
        log.write({"number": number, "text": "Grüße\n"})
    log.close()
    assert lines_of(path) == list(range(-1, 5000))
    assert json.loads(path.read_text().splitlines()[1]) == {"number": 0, "text": "Grüße\n"}
    assert log.lost == 0


def test_a_line_is_there_soon_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path)
    for number in range(3):
        log.write({"number": number})
        soon(lambda seen=number: lines_of(path) == list(range(seen + 1)), "the line is in the file")
    log.close()


def test_a_reader_that_does_not_read_costs_lines_that_are_counted_and_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    may_read = threading.Event()

    def reader() -> None:
        with path.open("rb") as pipe:
            may_read.wait(30)
            read.extend(pipe)

    reading = threading.Thread(target=reader)
    reading.start()
    log = DecisionLog(path)
    # More than fits into the pipe and the queue together, written while nobody reads.
    for number in range(20_000):
        log.write({"number": number, "padding": "x" * 200})
    lost = log.lost
    may_read.set()
    log.close()
    reading.join(10)
    numbers = [json.loads(line)["number"] for line in read]
    assert lost > 0
    assert len(numbers) + log.lost == 20_000
    assert numbers == sorted(numbers)


def test_what_cannot_be_written_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    log = DecisionLog(Path("/dev/full"))
    log.write({"number": 1})
    log.write({"number": 2})
    soon(lambda: log.lost == 2, "both lines are counted")
    log.close()
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] != []


def test_a_value_that_json_cannot_hold_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path)
    log.write({"number": object()})
    soon(lambda: log.lost == 1, "the line is counted")
    log.write({"number": 2})
    log.close()
    assert lines_of(path) == [2]


def test_a_rotated_file_is_followed(tmp_path: Path) -> None:
    path, rotated = tmp_path / "decisions.jsonl", tmp_path / "decisions.jsonl.1"
    log = DecisionLog(path)
    log.write({"number": 1})
    soon(lambda: lines_of(path) == [1], "the first line is in the file")
    path.rename(rotated)
    log.write({"number": 2})
    log.close()
    assert (lines_of(rotated), lines_of(path)) == ([1], [2])


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    DecisionLog(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        DecisionLog(tmp_path / "absent" / "decisions.jsonl")


def test_lines_of_several_processes_on_one_stdout_stay_whole(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from foresail_sidecar.telemetry.decision_log import STDOUT, DecisionLog\n"
        "log = DecisionLog(STDOUT, lock=Path(sys.argv[1]))\n"
        "[log.write({'number': number, 'padding': 'x' * 9000}) for number in range(300)]\n"
        "log.close()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    readable, writable = os.pipe()
    processes = [subprocess.Popen(command, stdout=writable) for _ in range(2)]
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        numbers = sorted(json.loads(line)["number"] for line in pipe)
    assert [process.wait(20) for process in processes] == [0, 0]
    assert numbers == sorted([*range(300)] * 2)
