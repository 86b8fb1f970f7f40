"""The four ways in which the demo's pool models use two sets of weights: what is put around a question before it is generated from.

Pure: an OpenAI chat request in, the request to llama.cpp out. It must not know HTTP, prices or the tasks' references.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from examples.demo import shots, tools

DEFAULT_OUTPUT_TOKENS: Final = 48
SHOTS: Final = 6
FACTS: Final = 2
MAX_TOOL_BYTES: Final = 256

Weights = Literal["smollm2", "gemma3"]
Message = Mapping[str, str]


class Unanswerable(Exception):
    """A request that these models do not understand; the text says why."""


@dataclass(frozen=True, slots=True)
class PoolModel:
    """One model of the pool: which weights it generates from, and what it puts around the conversation."""

    name: str
    weights: Weights
    wrap: Callable[[Sequence[Message]], dict[str, Any]]


def _plain(messages: Sequence[Message]) -> dict[str, Any]:
    return {"messages": [_system("Answer the question briefly."), *messages]}


def _calculator(messages: Sequence[Message]) -> dict[str, Any]:
    question = messages[-1]["content"]
    result = tools.calculate(question)
    if result is None or len(result.encode()) > MAX_TOOL_BYTES:
        return _plain(messages)
    example = (
        {"role": "user", "content": "How much is 2 plus 3?\nCalculator: 5"},
        {"role": "assistant", "content": "The answer is 5."},
        {"role": "user", "content": "Sort these words: sky, air.\nCalculator: air, sky"},
        {"role": "assistant", "content": "The answer is air, sky."},
    )
    asked = {"role": "user", "content": f"{question}\nCalculator: {result}"}
    return {"messages": [_system("Answer with the calculator's result."), *example, *messages[:-1], asked]}


def _retriever(messages: Sequence[Message]) -> dict[str, Any]:
    question = messages[-1]["content"]
    found = tools.retrieve(question, FACTS)
    if not found:
        return _plain(messages)
    asked = {"role": "user", "content": f"{' '.join(found)}\n{question}"}
    return {"messages": [_system("Answer the question from the facts."), *messages[:-1], asked]}


def _few_shot(messages: Sequence[Message]) -> dict[str, Any]:
    text = "".join(
        f"Question: {question}\nAnswer: {answer}\n\n"
        for question, answer in shots.select(messages[-1]["content"], SHOTS)
    )
    for message in messages:
        text += (
            f"Answer: {message['content']}\n\n"
            if message["role"] == "assistant"
            else f"Question: {message['content']}\n"
        )
    return {"prompt": f"{text}Answer:", "stop": ["\n"]}


def _system(text: str) -> Message:
    return {"role": "system", "content": text}


POOL_MODELS: Final = (
    PoolModel("smol", "smollm2", _plain),
    PoolModel("smol-calculator", "smollm2", _calculator),
    PoolModel("smol-retriever", "smollm2", _retriever),
    PoolModel("gemma-fewshot", "gemma3", _few_shot),
)


def wrap(model: PoolModel, body: object) -> dict[str, Any]:
    """Return the request to llama.cpp for an OpenAI chat request; raise `Unanswerable` for what these models cannot do."""
    if not isinstance(body, dict):
        raise Unanswerable("the body must be a JSON object")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise Unanswerable("`stream_options` must be an object")
    if body.get("n", 1) != 1 or body.get("tools"):
        raise Unanswerable("this model gives one answer (n = 1) and calls no tools of the client")
    wrapped = model.wrap(_messages(body.get("messages")))
    wrapped["max_tokens"] = _limit(body)
    wrapped["temperature"] = body.get("temperature") or 0
    wrapped["cache_prompt"] = False
    if body.get("stream"):
        wrapped["stream"] = True
        wrapped["stream_options"] = {"include_usage": True}
    return wrapped


def _messages(value: object) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise Unanswerable("`messages` must be a list with at least one message")
    return [{"role": _role(message), "content": _text(message.get("content"))} for message in value]


def _role(message: object) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("system", "developer", "user", "assistant"):
        raise Unanswerable("each message needs a `role`: system, developer, user or assistant")
    return str(role)


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    if content is None:
        return ""
    if not isinstance(content, str):
        raise Unanswerable("the `content` of a message must be text")
    return content


def _limit(body: Mapping[str, Any]) -> int:
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_OUTPUT_TOKENS
    if not isinstance(limit, int) or limit < 1:
        raise Unanswerable("`max_tokens` must be a whole number above 0")
    return limit
