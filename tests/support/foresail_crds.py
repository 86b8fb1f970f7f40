"""The generated custom resource definitions; knows their files and names alone."""

from __future__ import annotations

from pathlib import Path

FILES = sorted((Path(__file__).parents[2] / "crds").glob("*.yaml"))
NAMES = ("modelpools.foresail.dev", "routingpolicies.foresail.dev")
SHORT_NAMES = ("fpool", "fpolicy")
