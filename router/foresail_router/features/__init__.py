"""What a router sees of a prompt: the text that it reads, its tokens, its sentence embedding, and a cache of embeddings on disk.

Owns encoders and how they run on CPUs. Must not know models' outcomes, strategies or artifacts.
"""
