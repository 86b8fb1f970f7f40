"""Collecting from models: outcomes, by asking every model of a pool and grading its answers, and descriptions of prompts' tasks.

Owns what is asked, tried again and given up. Must not know routing decisions, artifacts or Kubernetes.
"""
