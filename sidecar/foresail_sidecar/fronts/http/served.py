"""What all requests under one serving state share: the policy, where its upstreams are, the list of its models.

Owns that it is worked out once per state. It must not know requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.flow.decide import Policy
from foresail_sidecar.protocols import openai
from foresail_sidecar.upstreams.targets import Target, targets_of


@dataclass(frozen=True, slots=True)
class Served:
    """One serving state, made ready for requests."""

    policy: Policy
    targets: Mapping[str, tuple[Target, ...]]
    models_body: bytes


class ServedCache:
    """Makes each state ready once. Requests that run under an earlier state keep what they were given."""

    def __init__(self) -> None:
        self._state: ServingState | None = None
        self._served: Served | None = None

    def of(self, state: ServingState) -> Served:
        """Return `state`, made ready."""
        if self._served is None or self._state is not state:
            names = (*state.snapshot.aliases, *(model.name for model in state.snapshot.models))
            self._served = Served(Policy.of(state), targets_of(state, openai.PATH), openai.models_body(names))
            self._state = state
        return self._served
