"""Strategies: from what is seen of a prompt to each model's quality and output length, both with an uncertainty.

Owns how they are fitted, applied and turned into plain state. Must not know files, prices, decisions or serving.
"""
