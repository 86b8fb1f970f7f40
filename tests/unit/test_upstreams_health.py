"""An upstream that fails repeatedly is left alone, tried by one request at a time, and taken back once it answers."""

from __future__ import annotations

from foresail_sidecar.upstreams.health import LONGEST_PAUSE_SECONDS, UpstreamHealth


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def unhealthy(failures: int = 3) -> tuple[UpstreamHealth, Clock]:
    clock = Clock()
    health = UpstreamHealth(clock)
    for _ in range(failures):
        fails(health)
    return health, clock


def fails(health: UpstreamHealth, upstream: str = "one") -> bool:
    return health.failed(upstream, ejected_after=3, ejection_seconds=30)


def test_failures_in_a_row_eject_and_others_do_not() -> None:
    health, _ = unhealthy(2)
    assert health.available("one")
    health.answered("one")
    assert not fails(health)
    assert not fails(health)
    assert health.available("one")
    assert fails(health)
    assert not health.available("one")
    assert health.available("two")


def test_one_probe_at_a_time_follows_an_ejection() -> None:
    health, clock = unhealthy()
    clock.now += 29
    assert not health.available("one")
    clock.now += 1
    assert health.available("one")
    health.asked("one")
    assert not health.available("one")
    assert health.seconds_until_available(["one"]) == 1


def test_a_probe_that_succeeds_ends_the_ejection_and_the_count() -> None:
    health, clock = unhealthy()
    clock.now += 30
    health.asked("one")
    health.answered("one")
    assert health.available("one")
    assert not fails(health)


def test_a_probe_that_fails_starts_the_ejection_again() -> None:
    health, clock = unhealthy()
    clock.now += 30
    health.asked("one")
    assert fails(health)
    clock.now += 29
    assert not health.available("one")
    clock.now += 1
    assert health.available("one")


def test_a_probe_that_says_nothing_lets_the_next_request_probe() -> None:
    health, clock = unhealthy()
    clock.now += 30
    health.asked("one")
    health.ended("one")
    assert health.available("one")


def test_failures_of_requests_that_were_under_way_do_not_lengthen_an_ejection() -> None:
    health, clock = unhealthy()
    clock.now += 20
    assert not fails(health)
    assert health.seconds_until_available(["one"]) == 10


def test_a_pause_is_kept_at_most_a_minute_and_through_a_success() -> None:
    health, clock = unhealthy(0)
    health.pause("one", 3600)
    health.pause("two", 5)
    health.answered("one")
    assert health.seconds_until_available(["one"]) == LONGEST_PAUSE_SECONDS
    assert health.seconds_until_available(["one", "two"]) == 5
    clock.now += 60
    assert health.available("one")
    health.answered("one")
    assert health.available("one")
