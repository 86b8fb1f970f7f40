"""Front ends: each takes requests from one kind of connection, drives the flow, and forwards.

Owns connections towards clients and the attempts. Must not know how a decision is taken, nor the fields of bodies.
"""
