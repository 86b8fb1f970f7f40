"""Upstreams that bill what they are sent with tokenizers and chat templates of their own, and always answer as long as they may."""

from __future__ import annotations

import contextlib
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from foresail_api.snapshot import SnapshotPrice

WRAPPER_TOKENS = 5
UNLIMITED = 10**9


@dataclass(frozen=True)
class Bill:
    """What an upstream bills: `image_tokens` are a part of the input, and it writes all the rest to its cache for a long time."""

    input_tokens: int
    output_tokens: int
    image_tokens: int = 0

    def nano_dollars(self, price: SnapshotPrice) -> Fraction:
        text, image, output = self._prices(price)
        per_token = Fraction(1, 1000)
        return (
            (self.input_tokens - self.image_tokens) * text * per_token
            + self.image_tokens * image * per_token
            + self.output_tokens * output * per_token
            + price.request_micro_dollars * 1000
        )

    def _prices(self, price: SnapshotPrice) -> tuple[int, int, int]:
        """The prices of a written token, of an image's and of an output token where the input is so long."""
        tiers = [tier.prices for tier in price.tiers if tier.above_input_tokens < self.input_tokens]
        if tiers:
            return tiers[-1].cache_write_long, tiers[-1].image, tiers[-1].output
        plain, long = price.input_micro_dollars, price.cache_write_long_micro_dollars
        image = price.image_micro_dollars
        return plain if long is None else long, plain if image is None else image, price.output_micro_dollars


@dataclass(frozen=True)
class BillingUpstream:
    """`normalise` is what its tokenizer does to text before it makes one token of each byte; it reads one name of the limit only;
    `escapes` prints JSON as Jinja does by itself, in ASCII and safe inside of HTML. A field of `own_limits` goes before the output
    limit; one of `own_models` makes it answer with a model that costs more than any other. Every image is `tokens_of_an_image`."""

    system_prompt_tokens: int
    limit_name: str = "max_tokens"
    normalise: Callable[[str], str] = str
    case_insensitive: bool = False
    indent: int | None = None
    reprints_arguments: bool = True
    escapes: bool = False
    own_limits: frozenset[str] = frozenset()
    own_models: frozenset[str] = frozenset()
    tokens_of_an_image: int = 0

    def bill(self, body: bytes) -> Bill:
        fields = json.loads(body)
        if self.case_insensitive:
            fields = {name.casefold(): value for name, value in fields.items()}
        answers = max(fields.get("n") or 1, fields.get("best_of") or 1)
        limit = fields.get(self.limit_name)
        if not self.own_limits.isdisjoint(fields) or not self.own_models.isdisjoint(fields):
            limit = None
        images = self.tokens_of_an_image * sum(map(_images, fields["messages"]))
        return Bill(self._input_tokens(fields) + images, answers * (UNLIMITED if limit is None else limit), images)

    def _input_tokens(self, fields: dict[str, Any]) -> int:
        tokens = self.system_prompt_tokens
        for message in fields["messages"]:
            tokens += WRAPPER_TOKENS + self._bytes(_rendered(message, self._print, self.reprints_arguments))
        for name, value in fields.items():
            if name in _PROMPT_FIELDS:
                tokens += self._bytes(self._print(value))
        return tokens

    def _print(self, value: Any) -> str:
        if not self.escapes:
            return json.dumps(value, ensure_ascii=False, indent=self.indent)
        return re.sub(r"[<>&']", lambda mark: f"\\u{ord(mark[0]):04x}", json.dumps(value, indent=self.indent))

    def _bytes(self, text: str) -> int:
        return len(self.normalise(text).encode("utf-8", "surrogatepass"))


_PROMPT_FIELDS = frozenset(
    {"tools", "functions", "response_format", "tool_choice", "documents", "chat_template_kwargs", "guided_json"}
)


def nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _images(message: dict[str, Any]) -> int:
    content = message.get("content")
    return sum(part["type"] == "image_url" for part in content) if isinstance(content, list) else 0


def _rendered(message: dict[str, Any], print_: Callable[[Any], str], reprints_arguments: bool) -> str:
    pieces = [message["role"], message.get("name") or "", message.get("tool_call_id") or ""]
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    pieces += [part.get("text", "") if isinstance(part, dict) else part or "" for part in parts]
    for call in message.get("tool_calls") or []:
        arguments = call["function"]["arguments"]
        if reprints_arguments:
            with contextlib.suppress(ValueError):
                arguments = print_(json.loads(arguments))
        pieces += [call["function"]["name"], arguments]
    return "".join(pieces)
