"""Where a policy's spend is kept, and what happens while that place cannot be reached.

Owns the shape that users write. It must not know how a ledger keeps anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from foresail_api.common import ApiObject, DnsSubdomain, rule
from foresail_api.pool import SecretRef

RedisUrl = Annotated[
    str,
    Field(
        min_length=9,
        max_length=256,
        pattern=r"^rediss?://([-A-Za-z0-9._]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[0-9]{1,3})?$",
    ),
]


class LedgerType(StrEnum):
    """What keeps the ledger."""

    EMBEDDED = "Embedded"
    REDIS = "Redis"


class OnLedgerUnavailable(StrEnum):
    """What happens to a request whose spend cannot be reserved because the ledger does not answer."""

    FAIL_CLOSE = "FailClose"
    FAIL_OPEN = "FailOpen"


_CA_MESSAGE = "`caSecretRef` must be absent unless `url` begins with `rediss://`"


class RedisLedger(ApiObject):
    """A Redis server that all pods share."""

    cel: ClassVar = (rule("!has(self.caSecretRef) || self.url.startsWith('rediss://')", _CA_MESSAGE),)

    url: RedisUrl = Field(
        description="`redis://HOST:PORT`, with TLS `rediss://HOST:PORT`, and `/NUMBER` for another database than 0. Never a password."
    )
    username: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\s:@]+$")] | None = Field(
        None, description="User of the server's access list. The server's default user if absent."
    )
    secret_ref: SecretRef | None = Field(None, description="Where the password is kept. None is sent if absent.")
    ca_secret_ref: SecretRef | None = Field(
        None,
        description="Where the certificates (PEM) are kept of the authorities that may have signed the server's; no others are trusted then. Those of the image if absent.",
    )

    @model_validator(mode="after")
    def _rules(self) -> RedisLedger:
        if self.ca_secret_ref is not None and not self.url.startswith("rediss://"):
            raise ValueError(_CA_MESSAGE)
        return self


class LedgerStorage(ApiObject):
    """A volume for an embedded ledger."""

    volume_claim_name: DnsSubdomain = Field(
        description="Name of the PersistentVolumeClaim, in the namespace of this policy. It must be writable, and this policy's alone."
    )


_REDIS_MESSAGE = "`redis` must be set if, and only if, `type` is `Redis`"
_STORAGE_MESSAGE = "`storage` must be absent if `type` is `Redis`"


class Ledger(ApiObject):
    """Where spend is kept."""

    cel: ClassVar = (
        rule("!has(self.type) || (self.type == 'Redis') == has(self.redis)", _REDIS_MESSAGE),
        rule("!has(self.type) || self.type == 'Embedded' || !has(self.storage)", _STORAGE_MESSAGE),
    )

    type: LedgerType = Field(
        LedgerType.EMBEDDED,
        description="`Embedded` keeps it in a file of the one pod; `Redis` on a server, for any number of pods.",
    )
    redis: RedisLedger | None = Field(None, description="The server, if `type` is `Redis`.")
    storage: LedgerStorage | None = Field(
        None,
        description="Volume of the file, if `type` is `Embedded`. Without one, what was spent is forgotten when the pod is replaced.",
    )
    timeout_milliseconds: Annotated[int, Field(strict=True, ge=10, le=5000)] = Field(
        500, description="Longest wait for an answer of the ledger. After it, `onLedgerUnavailable` applies."
    )

    @model_validator(mode="after")
    def _rules(self) -> Ledger:
        if (self.type == LedgerType.REDIS) != (self.redis is not None):
            raise ValueError(_REDIS_MESSAGE)
        if self.type != LedgerType.EMBEDDED and self.storage is not None:
            raise ValueError(_STORAGE_MESSAGE)
        return self
