"""What a protocol's module raises when a body cannot be read. It must not know how the error is sent."""

from __future__ import annotations


class BadRequest(Exception):
    """A request that its sender must change: status 400.

    `message` names the field, a shortened value and the remedy, and holds no prompt; `param` is the field's path in the body.
    """

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
