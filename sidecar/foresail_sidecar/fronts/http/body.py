"""Reads a request's body, whole, within its limits of size and time."""

from __future__ import annotations

import asyncio

from aiohttp import ClientPayloadError, web

from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.buffered import Held
from foresail_sidecar.fronts.http.errors import Refused


async def read_body(request: web.Request, limit_bytes: int, seconds: float, held: Held) -> bytes:
    """Return the body, counted in `held`.

    Raise `Refused` if it is too large, with or without a declared length, too slow, or broken, or if all requests hold too much.
    """
    content, pieces, length = request.content, list[bytes](), 0
    try:
        if content.is_eof():
            # Most bodies come together with their head: then there is nothing to wait for.
            body = content.read_nowait()
            _keep(body, len(body), limit_bytes, held)
            return body
        if request.content_length is not None and request.content_length > limit_bytes:
            raise Refused(errors.too_large(limit_bytes))
        async with asyncio.timeout(seconds):
            while piece := await content.readany():
                length += len(piece)
                _keep(piece, length, limit_bytes, held)
                pieces.append(piece)
    except TimeoutError:
        raise Refused(errors.too_slow(seconds)) from None
    except (ClientPayloadError, web.RequestPayloadError):
        raise Refused(errors.invalid("the request body is not what its headers say", None, None)) from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _keep(piece: bytes, length: int, limit_bytes: int, held: Held) -> None:
    if length > limit_bytes:
        raise Refused(errors.too_large(limit_bytes))
    held.take(len(piece))
