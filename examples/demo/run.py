"""The demo: real models, the example pool and policy, eight new prompts through OpenAI's SDK: `python -m examples.demo.run`.

It must not know how a decision is taken: it asks the served policy, as any client would.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import textwrap
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from examples.demo import processes
from examples.demo.tasks import prompts
from openai import APIStatusError, OpenAI

from foresail_router.data.grading import grade
from foresail_router.data.records import Prompt, read_prompts

FOLDER: Final = processes.FOLDER
PROMPTS: Final = 8
DEFAULT_SEED: Final = 2
_WIDTH: Final = 118
_ABOUT: Final = """\
Foresail demo. Four pool models, all real, all on this machine; two sets of weights, used in four ways:
  smol             SmolLM2-135M-Instruct (Q4_1), asked as it is
  smol-calculator  the same weights, with the result of a calculator put before the question
  smol-retriever   the same weights, with facts looked up in a small fact book put before the question
  gemma-fewshot    Gemma 3 270M base (Q4_K_M), which continues six worked examples
They are tiny and often wrong; that is why choosing pays. Their prices are invented."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One real answer: which model gave it, its text, whether it is right, and what it cost in US dollars as settled."""

    model: str
    text: str
    score: float
    cost: Decimal

    @property
    def line(self) -> str:
        """The answer's first line, its grade and its cost."""
        lines = self.text.strip().splitlines()
        first = lines[0] if lines else "(nothing)"
        return f"{_cut(first, 58):<58}  {'right' if self.score else 'wrong'}  {_dollars(self.cost)}"


def main() -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo.run", description="Routes new prompts to real models."
    )
    parser.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, help="seed of the eight prompts (default: %(default)s)"
    )
    options = parser.parse_args()
    # A proxy of the environment has no way to what runs on this machine.
    os.environ["NO_PROXY"] = "127.0.0.1"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        _demonstrate(options.seed)
    except KeyboardInterrupt:
        sys.stdout.flush()
        print("\nstopped; everything that was started has ended", file=sys.stderr)
        return 130
    except processes.CannotStart as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    print(f"\nDone in {time.monotonic() - started:.1f} s; everything that was started has ended.")
    return 0


def _demonstrate(seed: int) -> None:
    print(_ABOUT, flush=True)
    asked = new_prompts(seed)
    with processes.models(), processes.policy() as url:
        client = OpenAI(base_url=url, api_key="none is needed", max_retries=0, timeout=60)
        with contextlib.closing(client):
            print(f"\nServing examples/demo/pool.yaml and policy.yaml at {url}", flush=True)
            _route_all(client, asked, seed)
            _bad_input(client)


def new_prompts(seed: int) -> list[Prompt]:
    """Return the demo's prompts of a seed: of the held-out side of the tables, and none that the router was trained or measured on."""
    known = frozenset(prompt.prompt for prompt in read_prompts(FOLDER / "data" / "prompts.jsonl"))
    return list(prompts(seed, "test", PROMPTS, known))


def _route_all(client: OpenAI, asked: list[Prompt], seed: int) -> None:
    manifest = json.loads((FOLDER / "artifact" / "manifest.json").read_text(encoding="utf-8"))
    best_single, measured = str(manifest["reference"]["model"]), manifest["metrics"]
    print(f"\n{len(asked)} prompts of seed {seed}, none of them among those that the router was trained on.")
    print(f"For comparison each is put to {best_single} too, the best single model of the training data.")
    routed, single = [], []
    for number, prompt in enumerate(asked, start=1):
        print("\n" + textwrap.fill(f"{number}. [{prompt.task}] {prompt.prompt}", _WIDTH, subsequent_indent="   "))
        _print_decision(client, prompt)
        routed.append(_ask(client, prompt, "auto"))
        single.append(_ask(client, prompt, best_single))
        print(f"   {'auto, ' + routed[-1].model:<28} {routed[-1].line}")
        print(f"   {'best single, ' + single[-1].model:<28} {single[-1].line}", flush=True)
    print("\nTotals over these prompts")
    for name, answers in (("auto", routed), (f"best single, {best_single}", single)):
        right, cost = sum(answer.score for answer in answers), sum((answer.cost for answer in answers), Decimal(0))
        print(f"   {name:<28} {right:.0f} of {len(answers)} right for {_dollars(cost)}")
    print(
        f"   Eight prompts prove little. On {measured['prompts']:.0f} held-out prompts the router, cost left aside, answered "
        f"{measured['router_quality']:.0%} right,\n   the best single model {measured['best_single_quality']:.0%}; "
        f"the best answer to each prompt would have been right for {measured['oracle_quality']:.0%}."
    )


def _print_decision(client: OpenAI, prompt: Prompt) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": prompt.prompt}]}
    decision: Any = client.post("/route", body=body, cast_to=object)
    for candidate in decision["candidates"]:
        mark = ">" if candidate["model"] == decision["model"] else " "
        print(f"   {mark} {candidate['model']:<16} {_foreseen(candidate)}")


def _foreseen(candidate: dict[str, Any]) -> str:
    if candidate["eliminated"]:
        return f"out: {candidate['eliminated']}"
    if candidate["quality"] is None:
        return f"not scored, costs about {_dollars(Decimal(candidate['cost_usd']))}"
    quality, deviation = candidate["quality"], candidate["quality_std"]
    return (
        f"foreseen quality {quality:4.2f} +- {deviation:4.2f}, foreseen cost {_dollars(Decimal(candidate['cost_usd']))}"
    )


def _ask(client: OpenAI, prompt: Prompt, model: str) -> Answered:
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": prompt.prompt}]
    )
    text = raw.parse().choices[0].message.content or ""
    score = grade(prompt.grader or "", prompt.reference or "", text)
    return Answered(raw.headers["x-foresail-model"], text, score, Decimal(raw.headers["x-foresail-cost-usd"]))


def _bad_input(client: OpenAI) -> None:
    print("\nBad input, and what a client is told")
    too_long = "Sum this up: " + "all work and no play. " * 200
    for what, body in (
        ("unknown model", _body("gpt-unknown", "What is 2 + 2?")),
        ("20 MB body", _body("auto", "x" * 20_000_000)),
        ("broken JSON", b'{"model": "auto", "messages": [{"role"'),
        ("cap too small for the prompt", _body("auto", too_long)),
    ):
        print(f"   {what}:")
        for line in textwrap.wrap(_refusal(client, body), _WIDTH - 6):
            print(f"      {line}")


def _body(model: str, text: str) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()


def _refusal(client: OpenAI, body: bytes) -> str:
    """The error that OpenAI's SDK raises for a body."""
    try:
        client.post(
            "/chat/completions", content=body, cast_to=object, options={"headers": {"Content-Type": "application/json"}}
        )
    except APIStatusError as error:
        message = error.body["message"] if isinstance(error.body, dict) else error.body
        return f"{type(error).__name__}, status {error.status_code}: {_cut(str(message), 4 * _WIDTH)}"
    raise AssertionError("the request was expected to be refused")


def _dollars(amount: Decimal) -> str:
    return f"${amount:.7f}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


if __name__ == "__main__":
    sys.exit(main())
