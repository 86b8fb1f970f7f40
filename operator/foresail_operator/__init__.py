"""The control plane: watches both kinds, keeps each policy's ConfigMap, Deployment and Service as they should be, and writes status.

Owns everything that talks to the Kubernetes API. Must not know learning, prompts or how a request is routed.
"""
