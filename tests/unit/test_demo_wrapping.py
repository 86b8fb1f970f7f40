"""What the demo's models put around a question: tools that compute and look up, worked examples, and honest limits."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from examples.demo import shots, tables, tools
from examples.demo.tasks import generate
from examples.demo.wrapping import POOL_MODELS, Unanswerable, wrap

MODELS = {model.name: model for model in POOL_MODELS}


def asked(question: str, **more: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], **more}


@pytest.mark.parametrize(
    ("question", "result"),
    [
        ("What is 17 + 25?", "42"),
        ("How much is 376 minus 112?", "264"),
        ("What is the product of 12 and 12?", "144"),
        ("How many seconds are 8 minutes?", "480"),
        ("Express 41 feet in inches.", "492"),
        ("I have 2.5 litres. How many millilitres is that?", "2500"),
        ("How many letters are in the word 'banana'?", "6"),
        ("How often does the letter 'a' occur in 'banana'?", "3"),
        ("Spell 'banana' backwards.", "ananab"),
        ("What is the last letter of 'window'?", "w"),
        ("Sort these numbers from smallest to largest: 82, 40, 9.", "9, 40, 82"),
        ("Order alphabetically: guitar, whisper, orange.", "guitar, orange, whisper"),
        ("Who wrote Hamlet?", None),
        ("How many hours has a year?", None),
        ("", None),
    ],
)
def test_the_calculator_reads_plain_english(question: str, result: str | None) -> None:
    assert tools.calculate(question) == result


def test_the_retriever_finds_what_the_question_names() -> None:
    assert tools.retrieve("Name the capital city of Hungary.", 1) == ["The capital city of Hungary is Budapest."]
    assert tools.retrieve("With what money do you pay in Hungary?", 1) == [
        "The currency, the money people use in Hungary, is the forint."
    ]
    assert tools.retrieve("How many protons does an atom of tin have?", 1) == [
        "The atomic number of tin, how many protons it has, is 50."
    ]
    assert tools.retrieve("What is the opposite of hot?", 2) == []


def test_the_worked_examples_are_about_nothing_that_is_asked() -> None:
    questions = {task.prompt for task in chain(generate(1, "train", 448), generate(1, "test", 192))}
    assert not questions & {question for question, _ in shots.EXAMPLES}
    entries = {
        entry for table in (tables.ANTONYMS, tables.SPANISH, tables.FRENCH, tables.PAST_TENSES) for entry in table
    }
    named = {(question.split("'")[1], answer) for question, answer in shots.EXAMPLES if question.count("'") == 2}
    assert named
    assert not entries & named


def test_the_examples_nearest_to_the_question_come_last() -> None:
    chosen = shots.select("What is the past tense of 'swim'?", 3)
    assert all("tense" in question or "past" in question for question, _ in chosen)


def test_each_model_wraps_the_question_in_its_own_way() -> None:
    question = "What is 17 + 25?"
    plain = wrap(MODELS["smol"], asked(question))
    assert [message["content"] for message in plain["messages"]] == ["Answer the question briefly.", question]
    assert wrap(MODELS["smol-calculator"], asked(question))["messages"][-1]["content"] == f"{question}\nCalculator: 42"
    assert wrap(MODELS["smol-retriever"], asked(question))["messages"] == plain["messages"]
    few = wrap(MODELS["gemma-fewshot"], asked(question))
    assert few["prompt"].endswith(f"Question: {question}\nAnswer:")
    assert few["prompt"].count("Question: ") == 7


def test_limits_and_streaming_are_passed_on_and_everything_is_repeatable() -> None:
    wrapped = wrap(MODELS["smol"], asked("Hello", max_tokens=7, stream=True))
    assert wrapped["max_tokens"] == 7
    assert wrapped["temperature"] == 0
    assert wrapped["stream_options"] == {"include_usage": True}
    assert wrap(MODELS["smol"], asked("Hello", max_completion_tokens=9))["max_tokens"] == 9


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "JSON object"),
        ({}, "`messages`"),
        ({"messages": [{"content": "x"}]}, "`role`"),
        ({"messages": [{"role": "user", "content": 3}]}, "must be text"),
        (asked("x", n=2), "one answer"),
        (asked("x", max_tokens=-1), "`max_tokens`"),
        (asked("x", max_tokens="7"), "`max_tokens`"),
    ],
)
def test_what_the_models_cannot_do_is_refused(body: object, said: str) -> None:
    with pytest.raises(Unanswerable, match=said):
        wrap(MODELS["smol"], body)


def test_parts_of_text_are_read_as_one_text() -> None:
    content = [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 2?"}]
    wrapped = wrap(MODELS["smol-calculator"], {"messages": [{"role": "user", "content": content}]})
    assert wrapped["messages"][-1]["content"] == "What is 2 + 2?\nCalculator: 4"
