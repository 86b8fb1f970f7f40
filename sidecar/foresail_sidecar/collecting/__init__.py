"""Collecting outcomes: asks every model of a pool the prompts of a file, grades the answers, and keeps them in the data format.

Owns what is asked, tried again and given up. Must not know routing decisions, artifacts or Kubernetes.
"""
