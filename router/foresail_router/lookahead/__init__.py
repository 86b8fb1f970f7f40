"""Routing by foreseen answers with a whole language model: causal and masked lookahead (arXiv 2510.19506), trained and applied offline.

Owns recipes, networks, training and experiments on torch. It must not know artifacts, engines or anything that serves requests.
"""
