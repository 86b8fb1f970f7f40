"""The contract between all parts of Foresail: both resource kinds, the snapshot, `compile`, and the console script.

Owns the names and shapes that users write and that the parts exchange. Must not know HTTP, Kubernetes clients or learning.
"""
