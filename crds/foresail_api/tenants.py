"""Who may call a policy: anonymous callers, tenants by their API keys, and which models each tenant may use.

Owns the shape that users write and what a tenant's name is. It must not know keys, nor how a caller proves who they are.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field, model_validator

from foresail_api.common import LIST_SET, ApiObject, Distinct, DnsSubdomain, ModelName, list_map, rule, unique

_NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
ANONYMOUS_NAME: Final = "anonymous"
_ANONYMOUS_MESSAGE: Final = "`name` must be another word than `anonymous`, which is the word for callers without a key"
_RULES_MESSAGE: Final = "`apiKeys` must be set if there are `rules`"

TenantName = Annotated[str, Field(min_length=1, max_length=63, pattern=_NAME_PATTERN)]


def is_tenant_name(text: str) -> bool:
    """Return whether a tenant can have that name."""
    return re.fullmatch(_NAME_PATTERN, text) is not None and text != ANONYMOUS_NAME


class Anonymous(StrEnum):
    """Whether callers who do not say who they are get answers."""

    ALLOW = "Allow"
    DENY = "Deny"


class KeySecretRef(ApiObject):
    """A Secret in the same namespace, with all its entries."""

    name: DnsSubdomain = Field(description="Name of the Secret, in the namespace of this policy.")


class ApiKeys(ApiObject):
    """Where the hashes of the tenants' API keys are kept."""

    secret_ref: KeySecretRef = Field(
        description="Secret whose entries each say whose key a hash is, as `foresail key create` prints them. "
        "Nothing else should be in it. An entry that is removed ends its key."
    )


class TenantRule(ApiObject):
    """What one tenant may use."""

    cel: ClassVar = (rule(f"self.name != '{ANONYMOUS_NAME}'", _ANONYMOUS_MESSAGE),)

    name: TenantName = Field(description="The tenant, as the entries of the Secret name it.")
    models: Annotated[list[ModelName], Field(min_length=1, max_length=64), Distinct] = Field(
        description="Models of the pool that may answer this tenant. A tenant without a rule may use all of them.",
        json_schema_extra=LIST_SET,
    )

    @model_validator(mode="after")
    def _rules(self) -> TenantRule:
        if self.name == ANONYMOUS_NAME:
            raise ValueError(_ANONYMOUS_MESSAGE)
        return self


class Tenants(ApiObject):
    """Who may call."""

    # The API server evaluates rules also on the default of the whole object, before those of its fields are filled in.
    cel: ClassVar = (rule("!has(self.rules) || size(self.rules) == 0 || has(self.apiKeys)", _RULES_MESSAGE),)

    anonymous: Anonymous = Field(
        Anonymous.DENY,
        description="`Allow` answers callers without a credential of ours; `Deny` answers them with status 401.",
    )
    api_keys: ApiKeys | None = Field(
        None,
        description="Tenants prove who they are by an API key. A key that is not valid gets status 401, also where `anonymous` is `Allow`.",
    )
    rules: Annotated[list[TenantRule], Field(max_length=256), unique("name")] = Field(
        default_factory=list,
        description="What single tenants may use.",
        json_schema_extra={**list_map("name"), "default": []},
    )

    @model_validator(mode="after")
    def _rules(self) -> Tenants:
        if self.rules and self.api_keys is None:
            raise ValueError(_RULES_MESSAGE)
        return self
