"""Forwards a decided request and relays the answer.

Owns the attempts: each is announced to the flow, and the next upstream of the same model is asked only if nothing was sent to the one
before. It must not know how a decision is taken, nor the fields of bodies.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web
from multidict import CIMultiDict

from foresail_router.decision.types import Candidate
from foresail_sidecar.flow.outcomes import AttemptOutcome, RequestOutcome
from foresail_sidecar.flow.record import Exchange, record_first_byte, record_overhead
from foresail_sidecar.fronts.http import answers, errors
from foresail_sidecar.fronts.http.announced import AnnouncedAttempt
from foresail_sidecar.fronts.http.buffered import Held
from foresail_sidecar.fronts.http.context import Context
from foresail_sidecar.fronts.http.deciding import Considered
from foresail_sidecar.fronts.http.errors import Problem, Refused
from foresail_sidecar.fronts.http.stream import ClientLeft, RelayedStream
from foresail_sidecar.protocols import openai
from foresail_sidecar.protocols.answers import AnswerMachine, Ending, EndingKind
from foresail_sidecar.protocols.openai.bodies import UpstreamError
from foresail_sidecar.upstreams.client import UpstreamAnswer
from foresail_sidecar.upstreams.failures import FailureKind, UpstreamFailure
from foresail_sidecar.upstreams.headers import Field, merged, to_client, to_upstream
from foresail_sidecar.upstreams.targets import Target

_EVENT_STREAM = "text/event-stream"
_JSON = "application/json"
_OK = 200
# Larger bodies are written in pieces, between which other requests go on.
_WRITTEN_AT_ONCE_BYTES = 1024 * 1024
_ERROR_BODY_BYTES = 64 * 1024
# Neither caches nor buffering proxies may hold a stream back.
_STREAM_HEADERS = {"Content-Type": _EVENT_STREAM, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

_ATTEMPT_OUTCOMES = {
    FailureKind.UNREACHABLE: AttemptOutcome.UNREACHABLE,
    FailureKind.TIMED_OUT: AttemptOutcome.TIMED_OUT,
    FailureKind.BROKEN: AttemptOutcome.BROKE,
    FailureKind.TOO_LARGE: AttemptOutcome.BROKE,
}


class Forwarding:
    """One request on its way to an upstream and its answer on the way back.

    `stream` is the response once its head was sent; from then on an error can only be told inside of it. `error_relayed` says that
    the upstream's own error was.
    """

    def __init__(
        self, context: Context, request: web.Request, exchange: Exchange, interruption: asyncio.Timeout, held: Held
    ) -> None:
        self.stream: RelayedStream | None = None
        self.error_relayed = False
        self._context = context
        self._request = request
        self._exchange = exchange
        self._interruption = interruption
        self._held = held
        self._asked = 0.0

    async def run(self, considered: Considered, chosen: Candidate) -> web.StreamResponse:
        """Return the finished response; raise `Refused` with what went wrong, `ClientLeft`, or `CancelledError`."""
        named = self._request.headers.getall("Connection", ())
        passed = to_upstream(self._request.headers.items(), named)
        failures: dict[str, UpstreamFailure] = {}
        for target in considered.served.targets[chosen.model]:
            try:
                return await self._attempt(considered, chosen, target, passed)
            except UpstreamFailure as failure:
                if failure.kind != FailureKind.UNREACHABLE:
                    raise Refused(errors.failure(failure, chosen.model)) from None
                failures[target.name] = failure
        raise Refused(errors.unreachable(chosen.model, failures))

    async def _attempt(
        self, considered: Considered, chosen: Candidate, target: Target, passed: Sequence[Field]
    ) -> web.StreamResponse:
        parsed = considered.parsed
        body = openai.rewrite(
            parsed, model=target.model, output_limit=chosen.output_limit, limit_field=target.output_limit_field
        )
        headers = merged(target.headers, passed)
        attempt = AnnouncedAttempt(self._context.memory, self._exchange, chosen.model, target.name)
        self._asked = time.perf_counter()
        record_overhead(self._context.memory, self._exchange, self._asked - considered.arrived)
        answer: UpstreamAnswer | None = None
        try:
            answer = await self._context.client.ask(target, headers, body)
            if answer.status != _OK:
                problem = await _why_refused(answer, chosen.model, target)
                attempt.end(AttemptOutcome.REFUSED)
                raise Refused(problem)
            stream = (parsed.neutral.stream and answer.content_type != _JSON) or answer.content_type == _EVENT_STREAM
            attempt.streamed = stream
            machine = attempt.machine = openai.answer_machine(stream=stream, wants_usage=parsed.wants_usage)
            relay = self._relay_stream if stream else self._relay_whole
            return await relay(answer, machine, attempt, chosen, target)
        except UpstreamFailure as failure:
            attempt.end(_ATTEMPT_OUTCOMES[failure.kind])
            raise
        except asyncio.CancelledError:
            # The only two who cancel: aiohttp when the client leaves, and the end of the process.
            interrupted = self._interruption.expired()
            attempt.end(AttemptOutcome.INTERRUPTED if interrupted else AttemptOutcome.CLIENT_LEFT)
            raise
        except ClientLeft:
            attempt.end(AttemptOutcome.CLIENT_LEFT)
            raise
        finally:
            attempt.end(AttemptOutcome.BROKE)
            if answer is not None:
                answer.close()

    async def _relay_whole(
        self,
        answer: UpstreamAnswer,
        machine: AnswerMachine,
        attempt: AnnouncedAttempt,
        chosen: Candidate,
        target: Target,
    ) -> web.StreamResponse:
        machine.feed(await answer.read(self._context.settings.answer_limit_bytes, self._held.take))
        ending = machine.finish()
        if ending.kind != EndingKind.COMPLETE:
            attempt.end(_outcome(ending, machine))
            raise Refused(errors.broken_answer(target.masked(ending.error), chosen.model))
        attempt.end(AttemptOutcome.ANSWERED)
        if self._exchange.request is not None and self._exchange.request.stream:
            # A client that waits for events takes a whole answer for an empty stream.
            raise Refused(errors.not_streamed(chosen.model))
        self._first_byte(chosen)
        self._exchange.outcome = RequestOutcome.ANSWERED
        own = {"Content-Type": _JSON} if not answer.content_type else {}
        own |= answers.exchange_headers(self._exchange) | answers.cost_headers(self._exchange)
        body = ending.rest if len(ending.rest) <= _WRITTEN_AT_ONCE_BYTES else io.BytesIO(ending.rest)
        return web.Response(body=body, headers=CIMultiDict(merged(own, _passed_back(answer))))

    async def _relay_stream(
        self,
        answer: UpstreamAnswer,
        machine: AnswerMachine,
        attempt: AnnouncedAttempt,
        chosen: Candidate,
        target: Target,
    ) -> web.StreamResponse:
        stream = RelayedStream(self._stream_headers(answer, chosen), self._context.settings.stalled_client_seconds)
        failure: UpstreamFailure | None = None
        try:
            async for received in answer.pieces():
                relayed = b"".join(machine.feed(received))
                if machine.error is not None and self.stream is None:
                    break  # nothing was sent yet, so the client gets a status instead of a stream
                if relayed:
                    await self._relay(stream, relayed, chosen)
                if machine.error is not None:
                    break
        except UpstreamFailure as broke_off:
            failure = broke_off
        ending = machine.finish()
        if ending.rest and (self.stream is not None or ending.kind == EndingKind.COMPLETE):
            await self._relay(stream, ending.rest, chosen)
        if failure is not None and ending.kind != EndingKind.COMPLETE:
            raise failure
        if ending.kind != EndingKind.COMPLETE:
            self.error_relayed = ending.kind == EndingKind.ERROR
            attempt.end(_outcome(ending, machine))
            raise Refused(errors.broken_answer(target.masked(ending.error), chosen.model))
        attempt.end(AttemptOutcome.ANSWERED)
        self._exchange.outcome = RequestOutcome.ANSWERED
        return stream

    async def _relay(self, stream: RelayedStream, piece: bytes, chosen: Candidate) -> None:
        if self.stream is None:
            # Until here, whatever went wrong could still be answered as an error with a status of its own.
            self.stream = stream
            self._first_byte(chosen)
            await stream.begin(self._request)
        await stream.relay(piece)

    def _first_byte(self, chosen: Candidate) -> None:
        record_first_byte(self._context.memory, self._exchange, chosen.model, time.perf_counter() - self._asked)

    def _stream_headers(self, answer: UpstreamAnswer, chosen: Candidate) -> list[Field]:
        own = answers.exchange_headers(self._exchange) | answers.worst_case_headers(chosen) | _STREAM_HEADERS
        return merged(own, _passed_back(answer))


def _outcome(ending: Ending, machine: AnswerMachine) -> AttemptOutcome:
    """Return how an answer that is not whole counts: an upstream that says no instead of answering generated nothing."""
    refused = ending.kind == EndingKind.ERROR and not machine.output_bytes
    return AttemptOutcome.REFUSED if refused else AttemptOutcome.BROKE


async def _why_refused(answer: UpstreamAnswer, model: str, target: Target) -> Problem:
    try:
        said = openai.read_error(await answer.read(_ERROR_BODY_BYTES))
    except UpstreamFailure as failure:
        # The status is known, which says more than that its explanation is not.
        said = UpstreamError(str(failure))
    said = replace(said, message=target.masked(said.message) or "")
    return errors.upstream_status(answer.status, said, model, answer.headers)


def _passed_back(answer: UpstreamAnswer) -> list[Field]:
    return to_client(answer.headers.items(), answer.headers.getall("Connection", ()))
