"""What strategies are called in tables and plots. It must not know how they work."""

from __future__ import annotations

_TITLES = {
    "fused": "Fused",
    "task-aware": "Task-aware (FineRouter-style), frozen MiniLM + lexical",
    "latent-lookahead": "Latent lookahead, frozen MiniLM + lexical",
    "knn": "kernel kNN, MiniLM",
    "random": "random",
    "cheapest": "cheapest model",
    "best-single": "best single model",
    "kmeans": "Avengers-Pro clusters, frozen MiniLM + lexical",
    "uniroute": "UniRoute error vectors, frozen MiniLM + lexical",
    "ridge": "ridge regression, frozen MiniLM + lexical",
    "logistic": "logistic regression, frozen MiniLM + lexical",
    "mlp": "MLP, frozen MiniLM + lexical",
    "matrix-factorisation": "matrix factorisation, frozen MiniLM + lexical",
    "mirt": "MIRT (IRT-Router), frozen MiniLM + lexical",
    "ipr": "IPR tolerance rule, frozen MiniLM + lexical",
    "routerdc": "RouterDC loss, frozen MiniLM + lexical",
    "zooter": "ZOOTER loss, frozen MiniLM + lexical",
    "multilabel": "multi-label classification, frozen MiniLM + lexical",
    "smoothie": "SMOOTHIE (label-free), frozen MiniLM + lexical",
    "carrot-knn": "CARROT kNN, frozen MiniLM + lexical",
    "carrot-linear": "CARROT linear, frozen MiniLM + lexical",
}


def strategy_title(name: str) -> str:
    """Return what a strategy is called in tables, or its name where it has no title."""
    return _TITLES.get(name, name)
