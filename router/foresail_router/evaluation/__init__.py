"""Evaluation: what routing would have earned on recorded outcomes, against simple baselines and with intervals.

Owns figures and tables. Must not know artifacts, encoders, or how estimates came about.
"""
