"""Results shown: text, JSON, CSV, and one HTML file with its plots inside.

Owns wording and looks. Must not work figures out, nor know where they come from.
"""
