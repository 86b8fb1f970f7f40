"""What a request held is free when it ends: the next search for garbage may be hundreds of requests away."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from aiohttp import web
from tests.support.garbage import run_without_search
from tests.support.sidecar import model_of, running_sidecar, snapshot_of, upstream_of
from tests.support.upstream import DONE, Script, answers, event, piece, running_upstream, says, streams

from foresail_sidecar.flow.record import Exchange

REQUESTS = 5
# A connection that waits for its next request holds the last response; the upstream is in this process, too.
CONNECTIONS = 2


async def kept(script: Script, body: dict[str, Any]) -> list[object]:
    """Return what is left of some requests over one connection."""
    async with (
        running_upstream(script) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        for _ in range(REQUESTS):
            await sidecar.ask(**body)
        assert len(upstream.asked) == REQUESTS
        # By the type alone: to ask some objects of other libraries for their class warns.
        return [each for each in gc.get_objects() if issubclass(type(each), Exchange | web.StreamResponse)]


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (answers(), {}),
        (streams(event(piece("Hello.")), event(piece("", "stop")), DONE), {"stream": True}),
        (says(400, b'{"error": {"message": "no"}}'), {}),
        (says(500, b"no"), {}),
        (says(200, b"no JSON"), {}),
    ],
    ids=["answer", "stream", "refused", "failed", "broken"],
)
def test_nothing_of_a_request_stays(script: Script, body: dict[str, Any]) -> None:
    left = run_without_search(kept(script, body))
    assert len(left) <= CONNECTIONS


def test_a_connection_that_waits_for_another_request_holds_no_answer() -> None:
    long = "x" * 10_000
    left = run_without_search(kept(answers(long), {}))
    ours = [each for each in left if isinstance(each, web.Response) and "x-foresail-model" in each.headers]
    assert [each.body for each in ours] == [None]
