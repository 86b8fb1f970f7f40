"""The demo's real models over HTTP: OpenAI-compatible, truthful about usage, and never billing more than the pool's bound."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from examples.demo.ports import BASE_PORT, READY
from examples.demo.processes import FOLDER
from examples.demo.wrapping import POOL_MODELS
from openai import BadRequestError, OpenAI
from tests.support.processes import free_port, running, wait_until

NAMES = [model.name for model in POOL_MODELS]
AWKWARD = {
    "nothing": [{"role": "user", "content": ""}],
    "50 empty messages": [{"role": "user", "content": ""}] * 50,
    "empty turns": [{"role": role, "content": ""} for role in ("user", "assistant") * 20],
    "a long list to sort": [{"role": "user", "content": "Sort " + ", ".join(map(str, range(1000, 1040)))}],
    "a long product": [{"role": "user", "content": f"What is {10**100 + 7} * {10**100 + 9}?"}],
    "long facts": [{"role": "user", "content": "Who wrote Around the World in Eighty Days, The Picture of Dorian Gray?"}],
    "long examples": [{"role": "user", "content": "Read this: On Sunday, Paul met Rita. Where did they go? How many euros?"}],
    "one token per byte": [{"role": "user", "content": "".join(chr(0x10300 + number) for number in range(100))}],
    "ligatures": [{"role": "user", "content": "ﷺ" * 60}],
    "control characters": [{"role": "user", "content": "\u0001\n\t" * 60}],
    "template tokens": [{"role": "user", "content": "<|im_start|>system\n<end_of_turn><bos>" * 20}],
}  # fmt: skip


@pytest.fixture(scope="module")
def base_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    log = tmp_path_factory.mktemp("demo") / "models.log"
    port = free_port_range(len(NAMES))
    command = [sys.executable, "-m", "examples.demo.models", "--base-port", str(port)]
    with running(command, log, folder=FOLDER.parents[1]) as process:
        wait_until(lambda: READY in log.read_text(), "the demo's models", seconds=60, process=process, log=log)
        yield port


def free_port_range(count: int) -> int:
    """The first of `count` ports of loopback in a row that nobody listens on."""
    for _ in range(100):
        port = free_port()
        with contextlib.suppress(OSError, OverflowError), contextlib.ExitStack() as stack:
            for number in range(port, port + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            return port
    raise AssertionError("no ports in a row")


def client(base_port: int, name: str) -> OpenAI:
    return OpenAI(
        base_url=f"http://127.0.0.1:{base_port + NAMES.index(name)}/v1", api_key="unused", max_retries=0, timeout=60
    )


def ask(base_port: int, name: str, messages: list[dict[str, str]], **more: Any) -> Any:
    with client(base_port, name) as openai:
        return openai.chat.completions.create(model=name, messages=messages, **more)


@pytest.mark.parametrize(
    ("name", "question", "answer"),
    [
        ("smol", "What is the capital of Hungary?", "Budapest"),
        ("smol-calculator", "What is 317 + 425?", "742"),
        ("smol-retriever", "What is the currency of Guatemala?", "quetzal"),
        ("gemma-fewshot", "What is the past tense of 'feel'?", "felt"),
    ],
)
def test_each_model_answers_in_its_own_way_and_twice_the_same(
    base_port: int, name: str, question: str, answer: str
) -> None:
    messages = [{"role": "user", "content": question}]
    first, second = (ask(base_port, name, messages) for _ in range(2))
    assert answer in first.choices[0].message.content
    assert first.choices == second.choices
    assert first.model == name
    assert first.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_says_the_same_as_one_answer_and_reports_the_same_usage(base_port: int, name: str) -> None:
    messages = [{"role": "user", "content": "Who is the author of Pride and Prejudice?"}]
    whole = ask(base_port, name, messages)
    with client(base_port, name) as openai:
        stream = openai.chat.completions.create(
            model=name, messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.usage for chunk in chunks if chunk.usage] == [whole.usage]
    assert chunks[-1].choices == []
    with client(base_port, name) as openai:
        unasked = list(openai.chat.completions.create(model=name, messages=messages, stream=True))
    assert all(chunk.usage is None for chunk in unasked)


@pytest.mark.parametrize("name", NAMES)
def test_the_output_limit_holds(base_port: int, name: str) -> None:
    messages = [{"role": "user", "content": "Who is the author of War and Peace?"}]
    answer = ask(base_port, name, messages, max_tokens=2)
    assert answer.usage.completion_tokens <= 2
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("name", NAMES)
def test_no_prompt_is_billed_beyond_the_bound_that_the_pool_declares(base_port: int, name: str) -> None:
    pool = yaml.safe_load((FOLDER / "pool.yaml").read_text())
    overhead = next(model["tokenCount"]["overheadTokens"] for model in pool["spec"]["models"] if model["name"] == name)
    for what, messages in AWKWARD.items():
        billed = ask(base_port, name, messages, max_tokens=1).usage.prompt_tokens
        assert billed <= len(json.dumps(messages, ensure_ascii=False).encode()) + overhead, what


def test_what_cannot_be_answered_is_refused_in_openai_s_shape(base_port: int) -> None:
    with pytest.raises(BadRequestError, match="one answer"):
        ask(base_port, "smol", [{"role": "user", "content": "Hello"}], n=2)
    with pytest.raises(BadRequestError, match="exceeds the available context size"):
        ask(base_port, "gemma-fewshot", [{"role": "user", "content": "word " * 3000}])


def test_the_pool_names_the_models_and_their_default_ports() -> None:
    pool = yaml.safe_load(Path(FOLDER / "pool.yaml").read_text())
    assert {model["name"]: model["upstreams"][0]["url"] for model in pool["spec"]["models"]} == {
        name: f"http://127.0.0.1:{BASE_PORT + number}/v1" for number, name in enumerate(NAMES)
    }
