"""The embedded ledger: one SQLite file in a local directory, shared by the processes of one machine.

It owns the file's layout, its transactions and the thread that commits them. It must not know what an account stands for.
"""
