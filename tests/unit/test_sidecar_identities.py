"""Identities of requests: never the same twice, and in the order of time."""

from __future__ import annotations

import re

from foresail_sidecar.flow.identities import Identities


def test_no_two_are_the_same_and_all_have_one_form() -> None:
    one, other = Identities(), Identities()
    made = [identities.new() for _ in range(2000) for identities in (one, other)]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in made)


def test_the_moment_comes_first() -> None:
    identities = Identities()
    made = [identities.new()[:12] for _ in range(2000)]
    assert made == sorted(made)
