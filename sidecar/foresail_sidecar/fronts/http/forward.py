"""Forwards a decided request to one upstream and relays the answer.

Owns one attempt at a time: each is announced to the flow and ended once, however it ends. It must not know what follows a failure,
how a decision is taken, nor the fields of bodies.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from foresail_router.decision.types import Candidate
from foresail_sidecar.flow.admit import Reservation
from foresail_sidecar.flow.failures import AFTER_FIRST_BYTE, RULES
from foresail_sidecar.flow.outcomes import AttemptOutcome, RequestOutcome
from foresail_sidecar.flow.record import Exchange, record_end, record_first_byte, record_overhead
from foresail_sidecar.fronts.http import answers, upstream_errors
from foresail_sidecar.fronts.http.announced import AnnouncedAttempt
from foresail_sidecar.fronts.http.buffered import Held
from foresail_sidecar.fronts.http.context import Context
from foresail_sidecar.fronts.http.deciding import Considered
from foresail_sidecar.fronts.http.in_flight import Entered
from foresail_sidecar.fronts.http.stream import ClientLeft, RelayedStream
from foresail_sidecar.fronts.http.upstream_errors import AttemptFailed
from foresail_sidecar.protocols import openai
from foresail_sidecar.protocols.answers import AnswerMachine, EndingKind
from foresail_sidecar.protocols.openai.bodies import UpstreamError
from foresail_sidecar.upstreams.answer import UpstreamAnswer
from foresail_sidecar.upstreams.failures import UpstreamFailure
from foresail_sidecar.upstreams.headers import Field, merged, to_client, to_upstream
from foresail_sidecar.upstreams.redaction import plain_word, redacted
from foresail_sidecar.upstreams.targets import Target

_EVENT_STREAM = "text/event-stream"
_JSON = "application/json"
_OK = 200
# Larger bodies are written in pieces, between which other requests go on.
_WRITTEN_AT_ONCE_BYTES = 1024 * 1024
_ERROR_BODY_BYTES = 64 * 1024
# Neither caches nor buffering proxies may hold a stream back.
_STREAM_HEADERS = {"Content-Type": _EVENT_STREAM, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(slots=True)
class _Attempt:
    """What the steps of one attempt share. `answer` is None before its head has come, and once it was handed on."""

    candidate: Candidate
    target: Target
    announced: AnnouncedAttempt
    asked: float
    answer: UpstreamAnswer | None = None

    def end(self, outcome: AttemptOutcome, answer: UpstreamAnswer | None = None) -> None:
        """Announce the end of an attempt that was not answered whole; `answer` is the one that was handed on."""
        answer = answer or self.answer
        if answer is not None and answer.unread:
            # More was generated than anybody counted.
            self.announced.streamed = False
        self.announced.end(outcome)


class Forwarding:
    """One request on its way to upstreams and its answer on the way back.

    `stream` is the response once its head was sent; from then on an error can only be told inside of it.
    """

    def __init__(
        self,
        context: Context,
        request: web.Request,
        exchange: Exchange,
        considered: Considered,
        entered: Entered,
        held: Held,
    ) -> None:
        self.stream: RelayedStream | None = None
        self._context = context
        self._request = request
        self._exchange = exchange
        self._parsed = considered.parsed
        self._arrived = considered.arrived
        self._entered = entered
        self._held = held
        named = request.headers.getall("Connection", ())
        self._passed = to_upstream(request.headers.items(), named)

    async def attempt(
        self,
        candidate: Candidate,
        target: Target,
        deadline: float,
        reservation: Reservation | None = None,
    ) -> web.StreamResponse:
        """Return the finished response; raise `AttemptFailed`, `ClientLeft`, or `CancelledError`.

        `deadline`, by the clock of the event loop, is when the answer must have ended. `reservation` is settled when the attempt ends.
        """
        announced = AnnouncedAttempt(self._context.memory, self._exchange, candidate, target.name, reservation)
        attempt = _Attempt(candidate, target, announced, time.perf_counter())
        record_overhead(self._context.memory, self._exchange, attempt.asked - self._arrived)
        try:
            return await self._answer(attempt, deadline)
        except AttemptFailed as failed:
            attempt.end(RULES[failed.failure].outcome)
            raise
        except asyncio.CancelledError:
            # The only two who cancel: aiohttp when the client leaves, and the end of the process.
            if self._entered.interrupted:
                attempt.end(AttemptOutcome.INTERRUPTED)
            else:
                self._client_left(attempt)
            raise
        except ClientLeft:
            self._client_left(attempt)
            raise
        finally:
            if not self._exchange.draining:
                attempt.end(AttemptOutcome.BROKE)
            if attempt.answer is not None:
                attempt.answer.close()

    async def _answer(self, attempt: _Attempt, deadline: float) -> web.StreamResponse:
        parsed, target = self._parsed, attempt.target
        try:
            answer = attempt.answer = await self._asking(attempt, deadline)
            if answer.status != _OK:
                said = await _what_it_said(answer, target)
                raise upstream_errors.status_failed(answer.status, said, attempt.candidate.model, answer.headers)
            stream = (parsed.neutral.stream and answer.content_type != _JSON) or answer.content_type == _EVENT_STREAM
            attempt.announced.streamed = stream
            machine = attempt.announced.machine = openai.answer_machine(
                stream=stream, wants_usage=parsed.wants_usage, choices=parsed.neutral.choices
            )
            relay = self._relay_stream if stream else self._relay_whole
            return await relay(attempt, answer, machine)
        except UpstreamFailure as failure:
            raise self._told(upstream_errors.connection_failed(failure, attempt.candidate.model, target.name)) from None

    def _asking(self, attempt: _Attempt, deadline: float) -> Coroutine[Any, Any, UpstreamAnswer]:
        """Return what asks the upstream. The rewritten body ends with it, and not with the answer."""
        target = attempt.target
        body = openai.rewrite(
            self._parsed,
            model=target.model,
            output_limit=attempt.candidate.output_limit,
            limit_field=target.output_limit_field,
            ask_usage=target.asks_usage,
        )
        headers = merged({**target.headers, "X-Request-Id": attempt.announced.id}, self._passed)
        return self._context.client.ask(target, headers, body, deadline, attempt.announced.sending)

    async def _relay_whole(
        self, attempt: _Attempt, answer: UpstreamAnswer, machine: AnswerMachine
    ) -> web.StreamResponse:
        model, exchange = attempt.candidate.model, self._exchange
        machine.feed(await answer.read(self._context.settings.answer_limit_bytes, self._held.take))
        ending = machine.finish()
        if ending.kind != EndingKind.COMPLETE:
            raise upstream_errors.no_completion(_masked(ending.error, attempt.target), model)
        if exchange.request is not None and exchange.request.stream:
            raise upstream_errors.not_streamed(model)
        attempt.announced.end(AttemptOutcome.ANSWERED)
        self._first_byte(attempt)
        exchange.outcome = RequestOutcome.ANSWERED
        own = {"Content-Type": _JSON} if not answer.content_type else {}
        own |= answers.exchange_headers(exchange) | answers.cost_headers(exchange)
        own |= answers.limit_headers(attempt.candidate)
        body = ending.rest if len(ending.rest) <= _WRITTEN_AT_ONCE_BYTES else io.BytesIO(ending.rest)
        return web.Response(body=body, headers=CIMultiDict(merged(own, _passed_back(answer))))

    async def _relay_stream(
        self, attempt: _Attempt, answer: UpstreamAnswer, machine: AnswerMachine
    ) -> web.StreamResponse:
        stream = RelayedStream(self._stream_headers(attempt, answer), self._context.settings.stalled_client_seconds)
        model, failure = attempt.candidate.model, None
        relayed = b""

        def take(received: bytes) -> bool:
            nonlocal relayed
            relayed = b"".join(machine.feed(received))
            return machine.error is None and (not relayed or stream.relay_at_once(relayed))

        try:
            while not await answer.deliver(take):
                if machine.error is not None and self.stream is None:
                    break  # nothing was sent yet, so the client gets a status instead of a stream
                if relayed:
                    await self._relay(attempt, stream, relayed)
                if machine.error is not None:
                    break
        except UpstreamFailure as broke_off:
            failure = upstream_errors.connection_failed(broke_off, model, attempt.target.name)
        ending = machine.finish()
        if ending.rest and (self.stream is not None or ending.kind == EndingKind.COMPLETE):
            await self._relay(attempt, stream, ending.rest)
        if ending.kind == EndingKind.ERROR:
            raise self._told(upstream_errors.error_event(_masked(ending.error, attempt.target), model))
        if ending.kind != EndingKind.COMPLETE:
            raise self._told(failure or upstream_errors.stream_cut(model))
        attempt.announced.end(AttemptOutcome.ANSWERED)
        self._exchange.outcome = RequestOutcome.ANSWERED
        return stream

    async def _relay(self, attempt: _Attempt, stream: RelayedStream, piece: bytes) -> None:
        if self.stream is None:
            # Until here, whatever went wrong could still be answered as an error with a status of its own.
            self.stream = stream
            self._first_byte(attempt)
            await stream.begin(self._request, piece)
            self._forget_request()
        else:
            await stream.relay(piece)

    def _forget_request(self) -> None:
        """Let go of what only another attempt would need: a stream can last long, and its prompt be large."""
        self._parsed.forget()
        self._exchange.request = self._parsed.neutral
        self._passed = []
        self._held.let_go()

    def _told(self, failed: AttemptFailed) -> AttemptFailed:
        """Return the failure as what it is once a part of the answer is with the client."""
        if self.stream is not None:
            failed.failure = AFTER_FIRST_BYTE.get(failed.failure, failed.failure)
        return failed

    def _client_left(self, attempt: _Attempt) -> None:
        """End the attempt, or have the rest of its stream read where the upstream is to finish it."""
        answer, announced, machine = attempt.answer, attempt.announced, attempt.announced.machine
        context, exchange = self._context, self._exchange
        if answer is None or machine is None or not (announced.streamed and attempt.target.drains):
            attempt.end(AttemptOutcome.CLIENT_LEFT)
            return

        def drained(outcome: AttemptOutcome) -> None:
            attempt.end(outcome, answer)
            context.memory.metrics.drained_streams.labels(outcome.value).inc()
            record_end(context.memory, exchange, None)

        if context.drainer.take(answer, machine, drained):
            exchange.draining = True
            attempt.answer = None
        else:
            attempt.end(AttemptOutcome.CLIENT_LEFT)

    def _first_byte(self, attempt: _Attempt) -> None:
        seconds = time.perf_counter() - attempt.asked
        record_first_byte(self._context.memory, self._exchange, attempt.candidate.model, seconds)

    def _stream_headers(self, attempt: _Attempt, answer: UpstreamAnswer) -> list[Field]:
        exchange, candidate = self._exchange, attempt.candidate
        own = answers.exchange_headers(exchange) | answers.worst_case_headers(exchange, candidate) | _STREAM_HEADERS
        return merged(own | answers.limit_headers(candidate), _passed_back(answer))


async def _what_it_said(answer: UpstreamAnswer, target: Target) -> UpstreamError:
    try:
        said = openai.read_error(await answer.read(_ERROR_BODY_BYTES))
    except UpstreamFailure as failure:
        # The status is known, which says more than that its explanation is not.
        said = UpstreamError(str(failure))
    return replace(
        said,
        message=redacted(said.message, target.credential),
        type=plain_word(said.type, target.credential),
        param=plain_word(said.param, target.credential),
        code=plain_word(said.code, target.credential),
    )


def _masked(said: str | None, target: Target) -> str | None:
    return said and redacted(said, target.credential)


def _passed_back(answer: UpstreamAnswer) -> list[Field]:
    return to_client(answer.headers.items(), answer.headers.getall("Connection", ()))
