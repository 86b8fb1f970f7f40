"""The demo's prompts: seeded, of many kinds, gradable, and apart on the two sides."""

from __future__ import annotations

from collections import Counter

import pytest
from examples.demo import tables
from examples.demo.processes import FOLDER
from examples.demo.run import new_prompts
from examples.demo.tasks import GENERATORS, generate, of_side, prompts

from foresail_router.data.grading import compile_grader, grade
from foresail_router.data.records import read_prompts


def test_a_seed_gives_the_same_prompts_and_another_seed_others() -> None:
    assert list(generate(3, "train", 40)) == list(generate(3, "train", 40))
    assert {task.prompt for task in generate(3, "train", 40)} != {task.prompt for task in generate(4, "train", 40)}


def test_the_committed_prompts_are_what_the_script_writes() -> None:
    committed = list(read_prompts(FOLDER / "data" / "prompts.jsonl"))
    train = list(prompts(1, "train", 448))
    assert committed == [*train, *prompts(1, "test", 192, frozenset(prompt.prompt for prompt in train))]


def test_there_are_at_least_eight_kinds_and_150_held_out_prompts_with_no_prompt_twice() -> None:
    committed = list(read_prompts(FOLDER / "data" / "prompts.jsonl"))
    by_side = Counter(prompt.split for prompt in committed)
    assert by_side["test"] >= 150
    assert len({prompt.task for prompt in committed}) == len(GENERATORS) >= 8
    assert len({prompt.prompt for prompt in committed}) == len(committed)


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_every_reference_is_one_that_its_grader_understands_and_that_nonsense_does_not_meet(kind: str) -> None:
    found = [task for task in generate(11, "test", 64) if task.kind == kind]
    assert found
    for task in found:
        compile_grader(task.grader, task.reference)
        assert grade(task.grader, task.reference, "I do not know, sorry!") == 0


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("sentiment", "This is {}.", "It is positive, but it is also negative."),
        ("topics", "{}", "business, food, sports, weather"),
        ("capitals", "The capital is {}.", "The capital is Atlantis."),
        ("arithmetic", "The answer is {}.", "The answer is 0.5."),
    ],
)
def test_right_answers_are_graded_right(kind: str, right: str, wrong: str) -> None:
    for task in (task for task in generate(12, "train", 64) if task.kind == kind):
        expected = task.reference.rsplit(".*", 1)[-1]
        assert grade(task.grader, task.reference, right.format(expected)) == 1, task
        assert grade(task.grader, task.reference, wrong) == 0, task


def test_held_out_prompts_ask_about_other_entries_of_the_tables() -> None:
    for table in (tables.CAPITALS, tables.ANTONYMS, tables.PRAISE, tables.WORDS):
        train, test = of_side(table, "train"), of_side(table, "test")
        assert not set(train) & set(test)
        assert sorted([*train, *test]) == sorted(table)
        assert len(test) < len(train)


def test_a_new_seed_of_the_demo_repeats_no_committed_prompt() -> None:
    known = {prompt.prompt for prompt in read_prompts(FOLDER / "data" / "prompts.jsonl")}
    for seed in range(2, 12):
        found = new_prompts(seed)
        assert len(found) == 8
        assert not known & {prompt.prompt for prompt in found}
