"""The ledger on Redis: Lua scripts, each one atomic change, and the calls that run them.

It owns the layout of the keys, the generations of a ledger that lost data, and the checks of durability. It must not know
who reserves what, nor keep anything that another process would need: all state is in Redis.
"""
