"""Subcommands of the data plane.

Owns their flags. Must not import at the top what only running them needs.
"""
