from __future__ import annotations

from collections.abc import Iterator

import pytest

from foresail_sidecar.flow.lazily import Lazily


def noted(seen: list[int], most: int = 4) -> Iterator[int]:
    for number in range(most):
        seen.append(number)
        yield number


def test_no_item_is_worked_out_before_somebody_looks() -> None:
    seen = list[int]()
    items = Lazily(noted(seen))
    assert seen == []
    assert items
    assert (items[0], seen) == (0, [0])
    assert (items[2], items[1], seen) == (2, 1, [0, 1, 2])
    assert (len(items), list(items), seen) == (4, [0, 1, 2, 3], [0, 1, 2, 3])


def test_it_reads_like_a_list() -> None:
    assert (Lazily(noted([]))[-1], Lazily(noted([]))[1:3]) == (3, [1, 2])
    with pytest.raises(IndexError):
        Lazily(noted([]))[4]
    assert not Lazily(noted([], 0))
