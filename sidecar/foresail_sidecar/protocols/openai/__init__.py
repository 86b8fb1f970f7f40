"""OpenAI's chat completions: the only place that names the fields of its bodies.

Owns reading and rewriting requests, reading answers, and errors in its shape. Must not know connections, decisions or prices.
"""

from foresail_sidecar.protocols.openai.answer import answer_machine
from foresail_sidecar.protocols.openai.bodies import error_body, error_event, models_body, read_error
from foresail_sidecar.protocols.openai.request import ParsedChat, parse_request
from foresail_sidecar.protocols.openai.rewrite import rewrite

PATH = "/chat/completions"

__all__ = [
    "PATH",
    "ParsedChat",
    "answer_machine",
    "error_body",
    "error_event",
    "models_body",
    "parse_request",
    "read_error",
    "rewrite",
]
