"""What was loaded and may be asked for again: the least recently used goes when there is too much."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, TypeVar

from resources.problems import InputError, Problem

Item = TypeVar("Item")


class Cache(Generic[Item]):
    """Holds items of at most so many bytes in all; safe to use from several threads."""

    def __init__(self, most: float) -> None:
        self.most, self.held, self.loads = most, 0, 0
        self._items: OrderedDict[Hashable, tuple[Item, int]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Hashable) -> Item | None:
        """The item of a key, if it is still held."""
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key][0]

    def put(self, key: Hashable, item: Item, size: int) -> None:
        """Holds an item; drops those that were not asked for the longest, this one too if it is too large alone."""
        with self._lock:
            self.loads += 1
            if key in self._items:
                self.held -= self._items.pop(key)[1]
            self._items[key] = (item, size)
            self.held += size
            while self.held > self.most:
                self.held -= self._items.popitem(last=False)[1][1]

    def loaded(self, key: Hashable, load: Callable[[], Item], size: Callable[[Item], int]) -> Item:
        """The item of a key, loaded first if it is not held."""
        found = self.get(key)
        if found is None:
            found = load()
            self.put(key, found, size(found))
        return found


def from_environment(name: str, otherwise: float) -> float:
    """A positive number from an environment variable.

    Raises:
        InputError: it is none.
    """
    text: Any = os.environ.get(name, otherwise)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise InputError([Problem(f"environment variable {name}", f"{text!r} is no size", f"write {otherwise:g}")])
    return value
