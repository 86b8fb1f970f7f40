"""A ledger that does not answer is asked rarely, and at once again when it does."""

from __future__ import annotations

from foresail_sidecar.ledger.circuit import Circuit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_after_three_failures_one_call_in_each_pause_is_let_through() -> None:
    clock = Clock()
    circuit = Circuit(clock)
    for _ in range(3):
        assert circuit.allows()
        circuit.failed()
    assert not circuit.allows()
    clock.now += 0.25
    assert circuit.allows()
    assert not circuit.allows()
    circuit.failed()
    clock.now += 0.25
    assert circuit.allows()
    circuit.succeeded()
    assert circuit.allows()
    assert circuit.allows()


def test_failures_that_are_not_in_a_row_change_nothing() -> None:
    circuit = Circuit(Clock())
    for _ in range(5):
        circuit.failed()
        circuit.failed()
        circuit.succeeded()
    assert circuit.allows()
