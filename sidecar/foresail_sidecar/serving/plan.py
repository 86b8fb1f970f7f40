"""All that one run of `foresail serve` is told, as plain data that another process can be handed.

Owns its form. It must not know flags, nor how anything of it is done.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from foresail_sidecar.configuration.artifacts import Routers
from foresail_sidecar.configuration.reload import Inputs
from foresail_sidecar.configuration.sources import ManifestSource, SnapshotSource
from foresail_sidecar.fronts.http.settings import HttpSettings


class Plan(BaseModel):
    """What to serve, from where and how. Of `files` and `snapshot` one is given.

    `delay_seconds` passes between the signal to end and the refusal of new connections, so that load balancers notice;
    `drain_seconds` is the longest wait for requests under way after that. Requests leave their lines in `decision_log`, or on stdout;
    `state` is where embedded ledgers lie, None for a directory of the user's own;
    `shared` is the directory that several workers have in common, None where there is one process.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[Path, ...] = ()
    snapshot: Path | None = None
    policy: str | None = None
    secrets: Path | None = None
    volume_claims: dict[str, Path] = {}
    scorer_socket: Path | None = None
    host: str
    port: int
    body_limit_bytes: int
    buffered_bytes: int
    most_in_flight: int
    delay_seconds: float
    drain_seconds: float
    decision_log: Path
    state: Path | None = None
    shared: Path | None = None

    @property
    def settings(self) -> HttpSettings:
        """The limits of the front end."""
        return HttpSettings(
            body_limit_bytes=self.body_limit_bytes,
            buffered_bytes=self.buffered_bytes,
            most_in_flight=self.most_in_flight,
        )

    def inputs(self, routers: Routers) -> Inputs:
        """Return what the configuration is read from, with artifacts loaded by `routers`."""
        source = (
            ManifestSource(list(self.files), self.policy) if self.snapshot is None else SnapshotSource(self.snapshot)
        )
        return Inputs(source, self.secrets, self.volume_claims, routers)
