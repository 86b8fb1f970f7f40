"""The steps around forwarding that every front end calls: match, prepare, score, decide, settle, record.

Owns their order and what is remembered between requests. Must not know connections, frameworks or the fields of bodies: plain data in and out.
"""
