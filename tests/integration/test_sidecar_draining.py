"""A stream whose client has left is read on where its upstream is to finish it: bounded, settled as it ends, and cut off with the process."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.sidecar import Sidecar, model_of, running_sidecar, snapshot_of, upstream_of
from tests.support.upstream import DONE, Script, event, piece, running_upstream, send_events, usage_piece

from foresail_sidecar.fronts.http.context import CONTEXT
from foresail_sidecar.fronts.http.draining import Drainer

MESSAGES: Any = [{"role": "user", "content": "x"}]


def goes_on(when: asyncio.Event) -> Script:
    """Stream one piece, and the rest with its usage once `when` is set."""

    async def script(asked: Any, request: Any) -> Any:
        response = await send_events(request, [event(piece("one"))])
        await when.wait()
        for sent in (event(piece("two", "stop")), event(usage_piece(7, 5)), DONE):
            await response.write(sent)
        return response

    return script


async def leave(sidecar: Sidecar) -> None:
    stream = await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES, stream=True)
    await anext(stream)
    await stream.close()


async def reaches(sidecar: Sidecar, value: float, name: str, **labels: str) -> None:
    async with asyncio.timeout(5):
        while await sidecar.metric(name, **labels) < value:  # noqa: ASYNC110  a scrape says it
            await asyncio.sleep(0.01)


def drains(url: str) -> Any:
    return snapshot_of(model_of("small", upstream_of(url, on_client_cancel="Drain")))


async def test_the_rest_of_a_stream_is_read_and_its_usage_settled() -> None:
    when = asyncio.Event()
    async with running_upstream(goes_on(when)) as upstream, running_sidecar(drains(upstream.url)) as sidecar:
        await leave(sidecar)
        async with asyncio.timeout(5):
            while await sidecar.metric("foresail_in_flight_requests"):  # noqa: ASYNC110  a scrape says it
                await asyncio.sleep(0.01)
        assert await sidecar.metric("foresail_requests_total") == 0
        when.set()
        await reaches(sidecar, 1, "foresail_drained_streams_total", outcome="Answered")
        reported = await sidecar.metric("foresail_settled_dollars_total", basis="Reported")
        left = await sidecar.metric("foresail_requests_total", outcome="ClientLeft")
    assert reported == 7e-6 + 5 * 2e-6
    assert left == 1
    assert upstream.left == 0


async def test_no_more_streams_are_read_on_than_there_may_be() -> None:
    when = asyncio.Event()
    async with running_upstream(goes_on(when)) as upstream, running_sidecar(drains(upstream.url)) as sidecar:
        object.__setattr__(sidecar.application[CONTEXT], "drainer", Drainer(most=1))
        for _ in range(2):
            await leave(sidecar)
        async with asyncio.timeout(5):
            await upstream.abandoned.wait()
        await reaches(sidecar, 1, "foresail_upstream_attempts_total", outcome="ClientLeft")
        when.set()
        await reaches(sidecar, 1, "foresail_drained_streams_total", outcome="Answered")
    assert upstream.left == 1


async def test_a_stream_that_takes_too_long_is_left_after_all() -> None:
    async with (
        running_upstream(goes_on(asyncio.Event())) as upstream,
        running_sidecar(drains(upstream.url)) as sidecar,
    ):
        object.__setattr__(sidecar.application[CONTEXT], "drainer", Drainer(seconds=0.1))
        await leave(sidecar)
        async with asyncio.timeout(5):
            await upstream.abandoned.wait()
        await reaches(sidecar, 1, "foresail_drained_streams_total", outcome="ClientLeft")
        assert await sidecar.metric("foresail_settled_dollars_total", basis="Counted") > 0


async def test_the_end_of_the_process_cuts_off_what_is_read_on_and_settles_it() -> None:
    async with running_upstream(goes_on(asyncio.Event())) as upstream:
        async with running_sidecar(drains(upstream.url)) as sidecar:
            await leave(sidecar)
            async with asyncio.timeout(5):
                while await sidecar.metric("foresail_in_flight_requests"):  # noqa: ASYNC110  a scrape says it
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            await upstream.abandoned.wait()
        assert sidecar.sample("foresail_drained_streams_total", outcome="ClientLeft") == 1
        assert sidecar.sample("foresail_settled_dollars_total", policy="chat", model="small", basis="Counted") > 0
