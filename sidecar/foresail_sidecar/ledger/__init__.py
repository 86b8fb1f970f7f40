"""What was spent and what is reserved: reservations, settlements and leases over accounts, in SQLite or Redis, with one interface.

It must not know requests, models' prices or HTTP: amounts are integers, accounts are names.
"""
