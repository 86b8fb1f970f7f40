"""What a client is told of each failure of an upstream, should it be the last.

Owns those statuses and messages. It must not know where the request goes next. An upstream's own words come here redacted.
"""

from __future__ import annotations

from collections.abc import Mapping

from foresail_sidecar.flow.failures import Failure, of_status
from foresail_sidecar.flow.outcomes import RequestOutcome
from foresail_sidecar.fronts.http.errors import INVALID_REQUEST, Problem, whole_seconds
from foresail_sidecar.protocols.openai.bodies import UpstreamError
from foresail_sidecar.protocols.openai.context_length import is_context_length
from foresail_sidecar.upstreams.failures import FailureKind, UpstreamFailure
from foresail_sidecar.upstreams.pauses import retry_after_seconds

UPSTREAM_ERROR = "upstream_error"
_RATE_LIMIT_ERROR = "rate_limit_error"
# After a 429 that does not say how long.
_DEFAULT_PAUSE_SECONDS = 1.0

_FAILURES = {
    FailureKind.UNREACHABLE: Failure.UNREACHABLE,
    FailureKind.TIMED_OUT: Failure.TIMED_OUT,
    FailureKind.BROKEN: Failure.BROKEN,
    FailureKind.TOO_LARGE: Failure.TOO_LARGE,
}


class AttemptFailed(Exception):
    """An attempt that failed, with what the client is told if it was the last.

    `pause_seconds` is how long the upstream is to be left alone, None where it does not ask for that. `detail` says why there was no
    connection.
    """

    def __init__(
        self, failure: Failure, problem: Problem, pause_seconds: float | None = None, detail: str = ""
    ) -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.problem = problem
        self.pause_seconds = pause_seconds
        self.detail = detail


def connection_failed(failed: UpstreamFailure, model: str, upstream: str) -> AttemptFailed:
    """Return the failure of an attempt that gave no whole answer."""
    if failed.kind == FailureKind.UNREACHABLE:
        problem = unreachable(model, {upstream: str(failed)})
        return AttemptFailed(Failure.UNREACHABLE, problem, detail=str(failed))
    words = f"model {model!r}: {failed}"
    problem = _timed_out(words) if failed.kind == FailureKind.TIMED_OUT else _broke(words)
    return AttemptFailed(_FAILURES[failed.kind], problem)


def unreachable(model: str, failures: Mapping[str, str]) -> Problem:
    """Return the problem of a model none of whose upstreams, by their names, could be sent the request."""
    tried = "; ".join(f"{name}: {failure}" for name, failure in failures.items())
    message = f"model {model!r}: none of its upstreams could be asked; {tried}"
    return Problem(502, UPSTREAM_ERROR, "upstream_unreachable", message, RequestOutcome.UPSTREAM_UNREACHABLE)


def error_event(said: str | None, model: str) -> AttemptFailed:
    """Return the failure of a stream in which the upstream sent an error, in its own words."""
    return AttemptFailed(Failure.ERROR_EVENT, _broke(f"the upstream of model {model!r} failed: {said}"))


def stream_cut(model: str) -> AttemptFailed:
    """Return the failure of a stream that ended without saying that it is whole."""
    return AttemptFailed(Failure.BROKEN, _broke(f"the upstream of model {model!r} failed: its answer is not whole"))


def no_completion(said: str | None, model: str) -> AttemptFailed:
    """Return the failure of a good status with an error, in the upstream's own words, or with nothing that is a completion."""
    message = f"the upstream of model {model!r} failed: {said or 'its answer is not whole'}"
    return AttemptFailed(Failure.NO_COMPLETION, _broke(message))


def not_streamed(model: str) -> AttemptFailed:
    """Return the failure of a whole answer to a client that asked for a stream, which would take it for an empty one."""
    message = f"the upstream of model {model!r} does not stream: it gave one whole answer; ask again without `stream`"
    return AttemptFailed(Failure.NOT_STREAMED, _broke(message))


def status_failed(status: int, said: UpstreamError, model: str, headers: Mapping[str, str]) -> AttemptFailed:
    """Return the failure of a status other than 200; `said` is what its body says, redacted.

    What the client can change is relayed with the upstream's status; of what only the pool's owner can change, nothing is repeated.
    """
    failure = of_status(status, context_length=is_context_length(said))
    asked = retry_after_seconds(headers)
    pause = _DEFAULT_PAUSE_SECONDS if asked is None and failure == Failure.RATE_LIMITED else asked
    return AttemptFailed(failure, _of_status(failure, status, said, model, pause), pause)


def _of_status(failure: Failure, status: int, said: UpstreamError, model: str, pause: float | None) -> Problem:
    outcome = RequestOutcome.UPSTREAM_REFUSED
    answered = f"the upstream of model {model!r} answered with status {status}"
    told = f"{answered}: {said.message}" if said.message else answered
    match failure:
        case Failure.CREDENTIAL_REFUSED:
            message = f"the upstream of model {model!r} refused the pool's credential (status {status}); its owner has to renew it"
            return Problem(502, UPSTREAM_ERROR, "upstream_credential_refused", message, outcome)
        case Failure.RATE_LIMITED:
            headers = {"Retry-After": whole_seconds(pause or 0)}
            return Problem(429, _RATE_LIMIT_ERROR, "upstream_rate_limited", told, outcome, None, headers)
        case Failure.REQUEST_TIMED_OUT:
            return _timed_out(told)
        case Failure.REFUSED | Failure.CONTEXT_LENGTH:
            kind, code = said.type or INVALID_REQUEST, said.code or "upstream_refused"
            return Problem(status, kind, code, told, outcome, said.param)
        case _:
            return Problem(502, UPSTREAM_ERROR, "upstream_error", answered, outcome)


def _timed_out(message: str) -> Problem:
    return Problem(504, UPSTREAM_ERROR, "upstream_timeout", message, RequestOutcome.UPSTREAM_TIMED_OUT)


def _broke(message: str) -> Problem:
    return Problem(502, UPSTREAM_ERROR, "upstream_error", message, RequestOutcome.UPSTREAM_BROKE)
