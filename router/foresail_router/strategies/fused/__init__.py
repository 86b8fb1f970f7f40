"""The fused strategy: what smoothers, tasks and foreseen answers say of a prompt, in one calibrated estimate per model.

Owns how they are joined and what of each is kept. Must not know files, prices or decisions, nor fit anything at predicting.
"""
