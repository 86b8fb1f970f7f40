"""Metrics: the exact definition of every figure, as pure functions of arrays.

Must not know strategies, files or how a figure is shown. docs/reference/evaluation.md says the same in formulas.
"""
