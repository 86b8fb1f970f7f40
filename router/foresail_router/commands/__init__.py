"""Subcommands of `foresail` for learning: train, evaluate, predict.

Own arguments, progress and printing. Must not hold logic: they read, call one function of the parts, and write.
"""
