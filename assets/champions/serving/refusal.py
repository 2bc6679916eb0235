"""Why rows get no answer: mistakes in them, collected before anything is said, and models that are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from resources.problems import InputError, Problem

MOST_SHOWN = 20


class LostModelsError(Exception):
    """Models that should serve and that are missing, or not those that were fitted; no other model answers for them."""


class NotServableError(Exception):
    """Segments whose models look at features that are not committed any more."""


class Mistakes:
    """What is wrong with some rows, the same mistake of many rows told once; rows count from 1."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], set[int]] = {}

    def add(self, rows: Iterable[int], where: str, what: str, remedy: str = "") -> None:
        """One mistake of some rows (counted from 0), or of the request where there are none."""
        self._rows.setdefault((where, what, remedy), set()).update(rows)

    def at(self, where: str) -> Callable[[list[int], str], None]:
        """What adds mistakes of one column."""
        return lambda rows, what: self.add(rows, where, what)

    def refuse(self) -> None:
        """Nothing, where nothing is wrong.

        Raises:
            InputError: every mistake, as far as they can be shown.
        """
        found = [Problem(_where(rows, where), what, remedy) for (where, what, remedy), rows in self._rows.items()]
        if not found:
            return
        if (more := len(found) - MOST_SHOWN) > 0:
            found = [*found[:MOST_SHOWN], Problem(f"{more:,} more", "of such mistakes")]
        raise InputError(found)


def _where(rows: set[int], where: str) -> str:
    if not rows:
        return where
    others = f" (and {len(rows) - 1:,} more)" if len(rows) > 1 else ""
    return f"row {min(rows) + 1}{others}, {where}" if where else f"row {min(rows) + 1}{others}"
