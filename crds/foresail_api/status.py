"""What the operator writes into the status of both kinds. Users read it; nobody writes it by hand.

Owns the shape. It must not know how a status comes about.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from foresail_api.common import ApiObject, Digest, list_map


class ConditionStatus(StrEnum):
    """Truth of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiObject):
    """One fact about an object, as all Kubernetes kinds state them."""

    type: Annotated[str, Field(min_length=1, max_length=316)] = Field(
        description="What this is about, for example `Ready`."
    )
    status: ConditionStatus = Field(description="`True`, `False` or `Unknown`.")
    reason: Annotated[
        str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ] = Field(description="One word that says why; the docs list all of them.")
    message: Annotated[str, Field(min_length=1, max_length=32768)] = Field(
        description="What happened, and what to do about it."
    )
    observed_generation: Annotated[int, Field(strict=True, ge=0)] = Field(
        0, description="Generation of the object that this was said of."
    )
    last_transition_time: Annotated[
        str, Field(min_length=20, max_length=32, json_schema_extra={"format": "date-time"})
    ] = Field(description="When `status` last changed.")


Conditions = Annotated[
    list[Condition],
    Field(
        default_factory=list,
        max_length=16,
        description="What is known about this object.",
        json_schema_extra=list_map("type"),
    ),
]


class ModelPoolStatus(ApiObject):
    """What the operator found."""

    observed_generation: Annotated[int, Field(strict=True, ge=0)] = Field(
        0, description="Generation that this status describes."
    )
    models: Annotated[int, Field(strict=True, ge=0)] = Field(0, description="Number of models in the pool.")
    conditions: Conditions


class RoutingPolicyStatus(ApiObject):
    """What the operator found and what it runs."""

    observed_generation: Annotated[int, Field(strict=True, ge=0)] = Field(
        0, description="Generation that this status describes."
    )
    snapshot_hash: Digest | None = Field(
        None, description="Content hash of the configuration that was handed to the pods."
    )
    snapshot_sequence: Annotated[int, Field(ge=0)] = Field(
        0, description="Number of that configuration; each one that differs from the one before it has a larger number."
    )
    endpoint: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="Base URL for OpenAI clients inside the cluster."
    )
    available_replicas: Annotated[int, Field(strict=True, ge=0)] = Field(
        0, description="Pods of this policy that are available."
    )
    conditions: Conditions
