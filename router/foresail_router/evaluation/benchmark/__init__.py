"""The benchmark: a grid of pools, strategies, configurations, seeds and folds, cross-fitted, resumable, and summed up.

Owns cells and what follows from them. Must not know where data comes from, nor how results are shown.
"""
