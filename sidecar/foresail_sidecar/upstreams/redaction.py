"""Takes out of an upstream's words what its caller's clients must not learn: credentials, identities of accounts, addresses.

Owns what such things look like. It must not know where the words come from. Pure.
"""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"
LONGEST: Final = 500

_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"https?://\S+",
        r"\bbearer\s+\S+",
        # Keys, organisations and projects, as providers name them: a short prefix and an identifier.
        r"\b(?:sk|pk|rk|ak|gsk|xai|hf|key|org|proj|project|acct|account|user|tenant|sess|req|deployment)[-_][-_*.a-z0-9]{5,}[-_*a-z0-9]",
        r"\b(?:AKIA|ASIA|AIza)[-_a-z0-9]{12,}",
        # An identifier in a text is long and mixes digits and letters.
        r"\b(?=[-_a-z0-9]*[0-9])(?=[-_a-z0-9]*[a-z])[-_a-z0-9]{28,}\b",
        r"\b[-.+_a-z0-9]+@[-a-z0-9]+(?:\.[-a-z0-9]+)+",
        r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?::[0-9]+)?\b",
        r"\[?(?:[0-9a-f]{1,4}:){3,7}:?[0-9a-f]{0,4}\]?(?::[0-9]+)?",
        r"\[?\b(?:[0-9a-f]{1,4}:)+(?::[0-9a-f]{1,4})+\]?(?::[0-9]+)?",
        r"\b[-a-z0-9]+(?:\.[-a-z0-9]+)+:[0-9]{2,5}\b",
        # Accounts in the names of things: a cloud's ARN, and the project in a path.
        r"\barn:[-a-z0-9]+:\S+",
        r"\b(?:projects|subscriptions|accounts|organizations)/[^/\s]+",
        r"\b(?:account|project|subscription|organization|tenant)(?: number| id)?[ :=#]+[0-9]{6,}\b",
        r"\b[-a-z0-9]+(?:\.[-a-z0-9]+)*\.(?:svc|local|internal|cluster)(?:\.[-a-z0-9]+)*(?::[0-9]+)?\b",
    )
)


def redacted(text: str, credential: str | None) -> str:
    """Return `text`, shortened, with a mask for `credential` and for everything that looks like an identity or an address."""
    if credential:
        text = text.replace(credential, MASK)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}..."
    for pattern in _PATTERNS:
        text = pattern.sub(MASK, text)
    return text


def plain_word(text: str | None, credential: str | None) -> str | None:
    """Return a code or a path of a field as it is, or None where it is too long or holds anything that would be masked."""
    return text if text is None or redacted(text, credential) == text else None
