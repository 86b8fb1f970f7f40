"""The operator's subcommand of `foresail`.

Owns arguments and their checks. Must not know what the operator does with them.
"""
