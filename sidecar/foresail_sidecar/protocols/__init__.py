"""Wire protocols of requests and answers: bytes in, plain values out, and the rewrite of the kept original. No I/O.

Owns every name of a field in a body. Must not know models' prices, decisions, connections or time.
"""
