"""`foresail serve` with a trained router, on a core of its own, and the load that asks it from another. It must not know what is measured."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.places import GATEWAY_CORE, LOAD_CORE, on_core, started
from tests.bench.routed_prompts import prompts
from tests.support.configurations import learned, model, policy, pool, write
from tests.support.serving import FORESAIL

from foresail_router.artifact.store import read_manifest
from foresail_router.features.tokens import PromptTokenizer
from foresail_router.features.weights import MAX_TOKENS, load_package

ROOT = Path(__file__).resolve().parents[2]
_RUN_SECONDS = 180
Answers = list[dict[str, Any]]


@dataclass(slots=True)
class Router:
    """A served artifact: its directory, models, where it answers; and the source of prompts that it never saw."""

    artifact: Path
    models: int
    address: str
    tokens: int
    _seeds: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _tokenizer: PromptTokenizer = field(
        default_factory=lambda: PromptTokenizer(load_package().tokenizer, max_tokens=MAX_TOKENS)
    )

    def new_prompts(self, count: int) -> list[str]:
        """Return that many prompts, none of which was ever returned before."""
        return list(itertools.islice(prompts(self._tokenizer, self.tokens, next(self._seeds)), count))

    def ask(self, texts: Sequence[str], rate: float | None = None) -> Answers:
        """Ask each text in turn, or at random times at `rate` per second; return what each answer said and took."""
        wanted = {
            "address": self.address,
            "bodies": [_body(text) for text in texts],
            "rate": rate,
            "seed": next(self._seeds),
        }
        return list(_child("tests.bench.routed_load", wanted, LOAD_CORE))

    def alone(self, count: int) -> dict[str, list[float]]:
        """Return how long the parts of a decision take alone, on the same core while nothing is asked."""
        wanted = {"artifact": str(self.artifact), "texts": self.new_prompts(count)}
        return dict(_child("tests.bench.routed_alone", wanted, GATEWAY_CORE))


@contextlib.contextmanager
def served(wire: Path, artifact: Path, folder: Path, *, tokens: int, deadline_milliseconds: int) -> Iterator[Router]:
    """Serve an artifact's models, all of which one mock upstream answers at once, until the block ends."""
    manifest, digest = read_manifest(artifact)
    with contextlib.ExitStack() as stack:
        command = [wire, "mock", "-delay=0ms"]
        _, said = stack.enter_context(started(command, LOAD_CORE, folder / "mock.log", "127.0.0.1:"))
        router = learned(digest, path=artifact.name, deadlineMilliseconds=deadline_milliseconds)
        models = [
            model(name, f"http://{said.strip()}/v1", price=str(1 + number))
            for number, name in enumerate(manifest.model_names)
        ]
        write(folder / "all.yaml", pool(models), policy(router=router))
        command = [FORESAIL, "serve", "-f", folder / "all.yaml", "--port", "0", "--state", folder / "state"]
        command += ["--volume-claim", f"routers={artifact.parent}", "--decision-log", folder / "decisions.jsonl"]
        _, log = stack.enter_context(started(command, GATEWAY_CORE, folder / "serve.log", "/v1/route"))
        found = re.search(r"^  URL +http://(\S+)/v1$", log, re.MULTILINE)
        if found is None:
            raise SystemExit(f"foresail serve did not say where it listens:\n{log}")
        yield Router(artifact, len(models), found[1], tokens)


def _body(text: str) -> str:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 64})


def _child(module: str, wanted: dict[str, Any], core: int) -> Any:
    with on_core(core):
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
            cwd=ROOT,
        )
    if done.returncode != 0:
        raise SystemExit(f"{module} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)
