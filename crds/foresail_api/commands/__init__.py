"""Subcommands that need nothing but the API: `crds` and `compile`.

Must not know how their output is used.
"""
