"""What a policy is served with: the manifests of its ConfigMap, Service and Deployment, and whether a live object still says the same.

Owns what children hold. Must not know when they are written, nor conditions.
"""
