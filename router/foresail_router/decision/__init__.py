"""The decision: eliminate, price, decide. Pure functions over plain data, the same for every front end.

Owns what may answer, at what cost at worst, and which model does. Must not know protocols' bodies, connections, clocks or files.
"""
