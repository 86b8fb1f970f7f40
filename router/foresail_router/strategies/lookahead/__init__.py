"""Latent lookahead: foresee the embedding of each model's answer from the prompt, and judge the answer that was foreseen.

Owns how answers become something to learn from, and the strategy `latent-lookahead`. Must not know the text of an answer at serving time.
"""
