"""The process of `foresail serve`: puts configuration and front end together, announces itself, listens, drains, ends.

Owns signals, the event loop and what is printed at the start. Must not know files' formats, nor how a request is answered.
"""
