"""Saves tables with a row per hashed bucket by the rows that hold anything: most buckets occur in no training prompt.

It must not know what the rows mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BUCKETS = ".buckets"


def pack_rows(name: str, table: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the rows of a table (buckets x columns) that are not all 0 under its name, and their buckets beside it."""
    held = np.flatnonzero(table.any(axis=1)).astype(np.int32)
    return {name: table[held], name + _BUCKETS: held}


def unpack_rows(arrays: Mapping[str, NDArray[Any]], name: str, buckets: int) -> NDArray[np.float16]:
    """Return the table (buckets x columns) again.

    Raises `KeyError` when an array is missing, and `ValueError` when they do not fit one another or so many buckets.
    """
    rows, held = arrays[name], arrays[name + _BUCKETS]
    if rows.ndim != 2 or held.shape != (len(rows),) or held.dtype != np.int32:
        raise ValueError(f"its {name} does not fit its buckets")
    if len(held) and (held.min() < 0 or held.max() >= buckets or (np.diff(held) <= 0).any()):
        raise ValueError(f"its {name} names buckets that are not there, or twice")
    table = np.zeros((buckets, rows.shape[1]), dtype=np.float16)
    table[held] = rows
    return table
