"""Who calls: API keys by their hash, and the tenant that each belongs to.

It must not know HTTP, budgets or where keys are mounted.
"""
