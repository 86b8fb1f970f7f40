"""Scoring as an asynchronous service over plain values: the interface, the in-process engine, batching, its process seam.

Must not know requests, prices or policies: texts in, estimates out.
"""
