"""Logs are JSON lines on stderr; an error says where it was raised and nothing that it was raised about."""

from __future__ import annotations

import io
import json
import logging
import threading

from foresail_sidecar.telemetry.logs import log, log_defect, logging_to_stderr

LOGGER = logging.getLogger("foresail_sidecar.test")


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_event_is_one_line_with_its_fields() -> None:
    stream = io.StringIO()
    with logging_to_stderr(logging.INFO, stream):
        log(LOGGER, logging.INFO, "request", model="small\nfast", cost=None, tokens=3)
        log(LOGGER, logging.DEBUG, "left out")
        logging.getLogger("other.library").warning("told %s", "plainly")
    first, second = lines_of(stream)
    assert {name: first[name] for name in first if name != "time"} == {
        "level": "info",
        "logger": "foresail_sidecar.test",
        "event": "request",
        "model": "small\nfast",
        "tokens": 3,
    }
    assert (second["level"], second["logger"], second["event"]) == ("warning", "other.library", "told plainly")


def test_an_error_is_named_and_placed_but_not_quoted() -> None:
    stream = io.StringIO()
    with logging_to_stderr(logging.INFO, stream):
        try:
            raise ValueError("what the prompt said")
        except ValueError as error:
            log_defect(LOGGER, "request failed", error, decision_id="1")
            LOGGER.exception("failed")
    for line in lines_of(stream):
        assert line["exception"] == "ValueError"
        assert "test_sidecar_logs.py" in str(line["raised_at"])
    assert "what the prompt said" not in stream.getvalue()


def test_afterwards_nothing_is_written_any_more() -> None:
    stream = io.StringIO()
    level = logging.getLogger().level
    with logging_to_stderr(logging.DEBUG, stream):
        pass
    LOGGER.warning("late")
    assert stream.getvalue() == ""
    assert logging.getLogger().level == level


def test_a_reader_that_does_not_read_costs_lines_and_holds_nobody_up() -> None:
    reads_again = threading.Event()

    class Held(io.StringIO):
        def write(self, text: str) -> int:
            assert reads_again.wait(30)
            return super().write(text)

    stream = Held()
    with logging_to_stderr(logging.INFO, stream):
        for _ in range(12_000):
            log(LOGGER, logging.INFO, "request")
        reads_again.set()
    assert 10_000 <= len(lines_of(stream)) < 12_000
