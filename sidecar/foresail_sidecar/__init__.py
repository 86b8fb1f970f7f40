"""The data plane: reads a request, asks the router, forwards to the model that was chosen, and accounts for it.

Owns all that opens a connection. Must not know Kubernetes.
"""
