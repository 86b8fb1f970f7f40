"""What all requests under one serving state share: the policy, where its upstreams are, the list of its models.

Owns that it is worked out once per state. It must not know requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.flow.decide import Policy
from foresail_sidecar.flow.failures import Place
from foresail_sidecar.protocols import openai
from foresail_sidecar.upstreams.targets import Target, targets_of


@dataclass(frozen=True, slots=True)
class Served:
    """One serving state, made ready for requests. `places` holds the upstreams by model, in the order in which they are tried."""

    policy: Policy
    places: Mapping[str, tuple[Place, ...]]
    targets: Mapping[Place, Target]
    models_body: bytes

    @classmethod
    def of(cls, state: ServingState) -> Served:
        """Return `state`, made ready."""
        at: dict[Place, Target] = {}
        for model, targets in targets_of(state, openai.PATH).items():
            declared = state.snapshot.model(model)
            window = 0 if declared is None else declared.context_window_tokens
            at |= {Place(model, target.name, window): target for target in targets}
        names = [model.name for model in state.snapshot.models]
        places = {name: tuple(place for place in at if place.model == name) for name in names}
        return cls(Policy.of(state), places, at, openai.models_body((*state.snapshot.aliases, *names)))


class ServedCache:
    """Makes each state ready once. Requests that run under an earlier state keep what they were given."""

    def __init__(self) -> None:
        self._state: ServingState | None = None
        self._served: Served | None = None

    def of(self, state: ServingState) -> Served:
        """Return `state`, made ready."""
        if self._served is None or self._state is not state:
            self._served = Served.of(state)
            self._state = state
        return self._served
