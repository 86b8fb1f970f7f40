"""Who may call a policy.

Owns the shape that users write and what a tenant's name is. It must not know keys, nor how a caller proves who they are.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from pydantic import Field

from foresail_api.common import ApiObject

_NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_ANONYMOUS_NAME: Final = "anonymous"


def is_tenant_name(text: str) -> bool:
    """Return whether a tenant can have that name."""
    return re.fullmatch(_NAME_PATTERN, text) is not None and text != _ANONYMOUS_NAME


class Anonymous(StrEnum):
    """Whether callers who do not say who they are get answers."""

    ALLOW = "Allow"
    DENY = "Deny"


class Tenants(ApiObject):
    """Who may call."""

    anonymous: Anonymous = Field(
        Anonymous.DENY,
        description="`Allow` answers callers without a credential of ours; `Deny` answers them with status 401.",
    )
