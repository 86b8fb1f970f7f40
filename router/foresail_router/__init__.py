"""Learning and deciding: data sets, strategies, evaluation, artifacts as files, the scoring engine, the pure decision.

Must not know HTTP, Kubernetes, or where a request comes from.
"""
