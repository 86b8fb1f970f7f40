"""Connections to upstreams: where each one is and with which headers, one attempt at a time, and every way in which it can fail.

Owns sockets towards models, their time-outs and the headers that cross. Must not know bodies, decisions, or the front end's framework.
"""
