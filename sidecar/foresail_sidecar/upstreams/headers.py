"""Which headers cross the data plane, in each direction. Pure functions over header fields; it must not know connections."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

Field = tuple[str, str]

OWN_PREFIX = "x-foresail-"
_NAMES_KEPT: Final = 256
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# RFC 9110, section 7.6.1, and the older names that mean the same.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# Made anew for each connection, or said by us and not by the client.
_REQUEST_OWN = frozenset({"host", "content-length", "content-encoding", "content-type", "accept-encoding", "expect"})

# Who the client is and which way it came is nothing that a provider should learn from us.
_REQUEST_PRIVATE = frozenset({"forwarded", "via", "referer", "origin", "openai-organization", "openai-project"})
_REQUEST_PRIVATE_PREFIXES = (
    OWN_PREFIX,
    "x-forwarded-",
    "x-real-",
    "x-envoy-",
    "x-amzn-",
    "x-auth-",
    "x-client-",
    "cf-",
    "sec-",
)
_CREDENTIAL_WORDS = (
    *("auth", "cookie", "jwt", "token", "secret", "password", "credential"),
    *("api-key", "apikey", "access-key", "subscription-key"),
)

# The pool's account with the provider, and what belongs to the connection or the host instead of the answer.
_ANSWER_PRIVATE = frozenset(
    {
        "alt-svc",
        "content-encoding",
        "content-length",
        "date",
        "openai-organization",
        "openai-project",
        "server",
        "set-cookie",
        "strict-transport-security",
        "www-authenticate",
    }
)


def to_upstream(headers: Iterable[Field], named_in_connection: Iterable[str] = ()) -> list[Field]:
    """Return the client's fields that may go to an upstream.

    Left out are hop-by-hop fields, those that `Connection` names (`named_in_connection`, its values), everything that carries or could
    carry a credential, and what says who the client is.
    """
    return _unnamed([field for field in headers if _may_go_upstream(field[0])], named_in_connection)


def to_client(headers: Iterable[Field], named_in_connection: Iterable[str] = ()) -> list[Field]:
    """Return the upstream's fields that may go to a client, repeated ones kept, without any `x-foresail-*` of its own.

    Left out, too, is what holds control characters: it can be received, but not be sent.
    """
    fields = [field for field in headers if _may_go_to_client(field[0]) and not _CONTROL.search(field[1])]
    return _unnamed(fields, named_in_connection)


def merged(own: Mapping[str, str], passed: Iterable[Field]) -> list[Field]:
    """Return `own` and all of `passed` that `own` does not name; names are compared without case."""
    taken = {name.lower() for name in own}
    return [*own.items(), *[field for field in passed if field[0].lower() not in taken]]


# Requests and answers have the same few names over and over.
@lru_cache(maxsize=_NAMES_KEPT)
def _may_go_upstream(name: str) -> bool:
    # Many servers read an underscore as a hyphen.
    low = name.lower().replace("_", "-")
    if low in _HOP_BY_HOP or low in _REQUEST_OWN or low in _REQUEST_PRIVATE:
        return False
    if low.startswith(_REQUEST_PRIVATE_PREFIXES):
        return False
    return not any(word in low for word in _CREDENTIAL_WORDS)


@lru_cache(maxsize=_NAMES_KEPT)
def _may_go_to_client(name: str) -> bool:
    low = name.lower()
    return low not in _HOP_BY_HOP and low not in _ANSWER_PRIVATE and not low.startswith(OWN_PREFIX)


def _unnamed(fields: list[Field], named_in_connection: Iterable[str]) -> list[Field]:
    named = {token.strip().lower() for value in named_in_connection for token in value.split(",")} - _HOP_BY_HOP
    return [field for field in fields if field[0].lower() not in named] if named else fields
