"""Data sets: prompts, what each model made of them, files of both, long-form sources, leak-free splits, graders.

Owns the data format and its validation. Must not know encoders, strategies, HTTP, or where outcomes are collected from.
"""
