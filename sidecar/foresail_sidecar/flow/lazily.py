"""A sequence whose items are worked out when they are first looked at. It must not know what they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar, overload

Item = TypeVar("Item")


class Lazily(Sequence[Item]):
    """The items of an iterable. Looking at one works out those before it; the length works out all."""

    __slots__ = ("_known", "_rest")

    def __init__(self, items: Iterable[Item]) -> None:
        self._known: list[Item] = []
        self._rest = iter(items)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice) or index < 0:
            self._known.extend(self._rest)
        elif index >= len(self._known):
            self._known.extend(islice(self._rest, index + 1 - len(self._known)))
        return self._known[index]

    def __len__(self) -> int:
        self._known.extend(self._rest)
        return len(self._known)

    def __bool__(self) -> bool:
        if not self._known:
            self._known.extend(islice(self._rest, 1))
        return bool(self._known)
