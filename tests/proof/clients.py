"""A thousand clients, each with a connection of its own: what they ask for, how they behave when refused, what they got.

Owns the seeded choice of what each request does. It must not know ledgers, nor who is killed meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.proof.setting import MESSAGES
from tests.proof.upstream import PLAN
from tests.proof.wire import Answer, Broken, Connection

PATH: Final = "/v1/chat/completions"
_WHOLE: Final = json.dumps({"model": "auto", "messages": MESSAGES}).encode()
_STREAM: Final = json.dumps({"model": "auto", "messages": MESSAGES, "stream": True}).encode()
_RECONNECT_SECONDS: Final = 0.2

# What the first attempt of a request does, and how often of a thousand. The second one of most goes well.
_WAYS: Final = {
    "usage": 700,
    "silent": 60,
    "zero": 30,
    "cut": 50,
    "error": 50,
    "busy": 40,
    "refuse": 20,
    "drop": 30,
    "hang": 20,
}
_STREAMED_SHARE: Final = 0.4
_LEAVING_SHARE: Final = 0.08


@dataclass(frozen=True)
class Wish:
    """One request. `leaves_after_seconds` and `leaves_after_bytes` are when its client leaves, negative for never."""

    plan: str
    stream: bool = False
    leaves_after_seconds: float = -1.0
    leaves_after_bytes: int = -1


@dataclass
class Crowd:
    """What all clients together did. `outcomes` counts statuses with the codes of errors, and what else came of requests."""

    connected: int = 0
    most_connected: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        """How many requests got a whole answer with status 200."""
        return self.outcomes["200"]

    @property
    def asked(self) -> int:
        """How many requests were sent."""
        return sum(self.outcomes.values())

    def count(self, change: int) -> None:
        """Count a connection that was opened (1) or that is gone (-1)."""
        self.connected += change
        self.most_connected = max(self.most_connected, self.connected)


class Client:
    """One client with one connection to one of the ports, or to the next one if nobody answers there."""

    def __init__(self, number: int, ports: Sequence[int], crowd: Crowd) -> None:
        self._ports = ports
        self._turn = number
        self._crowd = crowd
        self._connection = Connection()
        self._counted = False

    async def connect(self) -> None:
        """Open the connection, however long that takes."""
        while True:
            with contextlib.suppress(Broken):
                await self._connection.connect(self._ports[self._turn % len(self._ports)])
                self._note(connected=True)
                return
            self._turn += 1
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def ask(self, wish: Wish) -> Answer | None:
        """Send one request and count what came of it; return its answer if there was a whole one."""
        if not self._connection.connected:
            self._note(connected=False)
            await self.connect()
        outcome, answer = "broken off", None
        leaves = wish.leaves_after_seconds >= 0
        try:
            answer = await self._connection.ask(
                PATH,
                _STREAM if wish.stream else _WHOLE,
                f"{PLAN}: {wish.plan}\r\n",
                seconds=wish.leaves_after_seconds if leaves else 30.0,
                leaves_after=wish.leaves_after_bytes,
            )
            outcome = "left in the middle" if answer is None else f"{answer.status} {answer.code}".strip()
        except Broken as broken:
            if leaves and str(broken) == "TimeoutError":
                outcome = "left before the answer"
        self._crowd.outcomes[outcome] += 1
        if not self._connection.connected:
            self._note(connected=False)
        return answer

    def close(self) -> None:
        """Leave."""
        self._connection.close()
        self._note(connected=False)

    def _note(self, *, connected: bool) -> None:
        if connected != self._counted:
            self._counted = connected
            self._crowd.count(1 if connected else -1)


async def once_each(number: int, ports: Sequence[int], crowd: Crowd) -> None:
    """Connect so many clients; then each one asks until it is answered or told that the budget is used up."""

    async def asks(client: Client) -> None:
        while True:
            answer = await client.ask(Wish("worst"))
            if answer is not None and (answer.status == 200 or answer.code == "budget_exhausted"):
                return
            await asyncio.sleep(answer.retry_after if answer is not None else 1.0)

    await _all(number, ports, crowd, asks)


async def until_exhausted(number: int, ports: Sequence[int], crowd: Crowd) -> None:
    """Connect so many clients; each one asks on, as soon as `retry-after` says, until it is told that the budget is used up."""

    async def asks(client: Client) -> None:
        while True:
            answer = await client.ask(Wish("tenth"))
            if answer is not None and answer.code == "budget_exhausted":
                return
            if answer is None or answer.status != 200:
                await asyncio.sleep(answer.retry_after if answer is not None else 1.0)

    await _all(number, ports, crowd, asks)


async def in_trouble(
    number: int, ports: Sequence[int], crowd: Crowd, *, seed: int, ended: asyncio.Event, pause_seconds: float
) -> None:
    """Connect so many clients; each one asks again and again, with pauses, until `ended`. Some leave, some ask for trouble."""
    counter = iter(range(number))

    async def asks(client: Client) -> None:
        choice = random.Random(seed * 1_000_003 + next(counter))
        await asyncio.sleep(choice.random() * pause_seconds)
        while not ended.is_set():
            answer = await client.ask(wish(choice))
            pause = (0.5 + choice.random()) * pause_seconds
            if answer is not None and answer.status in (429, 503):
                pause = max(pause, min(answer.retry_after, 5.0) * (0.5 + choice.random()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), pause)

    await _all(number, ports, crowd, asks)


def wish(choice: random.Random) -> Wish:
    """Return a request as one of many clients sends it."""
    first, second = choice.choices(list(_WAYS), weights=list(_WAYS.values()), k=2)
    plan = ",".join((first, "usage" if choice.random() < 0.7 else second, "usage"))
    stream = choice.random() < _STREAMED_SHARE
    if choice.random() >= _LEAVING_SHARE:
        return Wish(plan, stream)
    if stream and choice.random() < 0.7:
        return Wish(plan, stream, leaves_after_bytes=choice.randrange(1, 3000))
    return Wish(plan, stream, leaves_after_seconds=choice.random() * 0.08)


async def _all(number: int, ports: Sequence[int], crowd: Crowd, asks: Callable[[Client], object]) -> None:
    """Connect all clients, then let all begin in the same moment."""
    clients = [Client(index, ports, crowd) for index in range(number)]
    try:
        for start in range(0, number, 100):
            await asyncio.gather(*(client.connect() for client in clients[start : start + 100]))
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(asks(client))  # type: ignore[arg-type]
    finally:
        for client in clients:
            client.close()
