"""Task-aware routing: tasks discovered in a graph of prompts, what each model scores on them, and experts for them.

Owns discovery, task scores, the classifier and the mixture of experts. Must not know files, prices, decisions or other strategies.
"""
