"""The benchmark's page says what was measured."""

from __future__ import annotations

import json

from tests.bench import report
from tests.bench.run import Samples, add_differences


def samples(p50: float, learned: bool = False, cpu: float = 0.0, overhead: float = 0.0) -> Samples:
    made = Samples(learned)
    for step in (0.0, 1.0, 5.0):
        made.p50.append(p50 + step)
        made.p99.append(2 * p50 + step)
        made.per_second.append(1000 / p50)
        made.cpu.append(cpu)
        made.overhead_p50.append(overhead)
        made.overhead_p99.append(2 * overhead)
    made.requests, made.fallbacks = 300, 7 if learned else 0
    return made


def test_medians_come_with_their_spread_and_rows_with_what_they_add() -> None:
    rows = {"directly": samples(20), "a gateway": samples(22, learned=True, cpu=0.5, overhead=1.25)}
    rows["a gateway"].added_p50, rows["a gateway"].added_p99 = [2.0, 2.1, 9.0], [4.0, 4.0, 4.5]
    facts = report.Facts("2026-01-02", "a machine", (0, 1), 3, 12.3, (0.5, 0.75))
    text = report.page(facts, {"one at a time": rows}, {"a gateway": 55.6})
    assert "| a gateway, one at a time | 2.10 | 1.25 | 0.50 | 56 |" in text
    assert "## one at a time" in text
    assert "| directly |  |  | 21.00 (20.00 to 25.00) |" in text
    assert "| a gateway | 2.10 (2.00 to 9.00) | 4.00 (4.00 to 4.50) |" in text
    assert "| 1.25 / 2.50 | 0.50 (0.50 to 0.50) |" in text
    assert "| a gateway | 56 |" in text
    assert "7 of 300 decisions fell back" in text
    assert "on core 0, the upstream and the load together on core 1" in text
    data = report.as_data(facts, {"one at a time": rows}, {"a gateway": 55.6})
    assert json.loads(json.dumps(data))["samples"]["one at a time"]["a gateway"]["p50"] == [22, 23, 27]


def test_what_is_added_is_the_difference_within_a_round() -> None:
    rows = {"directly": samples(20), "a gateway": samples(22)}
    add_differences(rows, "directly")
    assert rows["a gateway"].added_p50 == [2.0]
    assert rows["a gateway"].added_p99 == [4.0]
    assert rows["directly"].added_p50 == [0.0]
