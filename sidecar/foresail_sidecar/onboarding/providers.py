"""The providers whose keys `foresail init` looks for: those with an OpenAI-compatible chat endpoint and a price list.

Owns variables' names and base URLs. It must not know any model, nor keep or show a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from foresail_api.errors import UserError
from foresail_api.pool import OutputLimitField


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider: its name in the price list, where its key is found, where it answers.

    `brands` are the first words of the names of its own models; a host of other makers' models has none.
    """

    name: str
    variables: tuple[str, ...]
    url: str
    brands: tuple[str, ...] = ()
    output_limit_field: OutputLimitField = OutputLimitField.MAX_TOKENS


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key that the environment holds. It shows in no representation."""

    provider: Provider
    variable: str
    key: str = field(repr=False)


# Mistral's endpoint is left out: it answers 422 to streams that ask for usage (`stream_options`), as all that we forward do.
PROVIDERS = (
    Provider(
        "openai",
        ("OPENAI_API_KEY",),
        "https://api.openai.com/v1",
        brands=("gpt",),
        output_limit_field=OutputLimitField.MAX_COMPLETION_TOKENS,
    ),
    Provider("anthropic", ("ANTHROPIC_API_KEY",), "https://api.anthropic.com/v1", brands=("claude",)),
    Provider(
        "google",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "https://generativelanguage.googleapis.com/v1beta/openai",
        brands=("gemini",),
    ),
    Provider("deepseek", ("DEEPSEEK_API_KEY",), "https://api.deepseek.com/v1", brands=("deepseek",)),
    Provider("x-ai", ("XAI_API_KEY",), "https://api.x.ai/v1", brands=("grok",)),
    Provider("moonshotai", ("MOONSHOT_API_KEY",), "https://api.moonshot.ai/v1", brands=("kimi",)),
    Provider("zai", ("ZAI_API_KEY",), "https://api.z.ai/api/paas/v4", brands=("glm",)),
    Provider("groq", ("GROQ_API_KEY",), "https://api.groq.com/openai/v1"),
    Provider("cerebras", ("CEREBRAS_API_KEY",), "https://api.cerebras.ai/v1"),
    Provider("together", ("TOGETHER_API_KEY",), "https://api.together.xyz/v1"),
)


def find_keys(environment: Mapping[str, str]) -> tuple[FoundKey, ...]:
    """Return the keys in an environment, one for each provider; raise `UserError` if there is none, or one that is no key."""
    found = []
    for provider in PROVIDERS:
        for variable in provider.variables:
            key = environment.get(variable, "").strip()
            if key:
                found.append(FoundKey(provider, variable, _checked(variable, key)))
                break
    if not found:
        variables = ", ".join(variable for provider in PROVIDERS for variable in provider.variables)
        raise UserError(f"no provider's key is in the environment; set at least one of {variables}")
    return tuple(found)


def _checked(variable: str, key: str) -> str:
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(f"the environment variable {variable} holds no key: a key is one word of ASCII; set it again")
    return key
