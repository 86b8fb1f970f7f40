"""What `foresail init` does: finds provider keys, chooses current models from a price list, writes a pool and a policy to start with.

Owns the providers, the rule of choice and the files' text. Must not know how they are served.
"""
