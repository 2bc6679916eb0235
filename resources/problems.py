"""What is wrong with a user's configuration or data, said so that they can mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NEAREST = 3


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is (file, key, column or row), what is wrong, and what to write instead."""

    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" -> {self.remedy}" if self.remedy else "")


class InputError(Exception):
    """Configuration or input that cannot be used; carries every problem found, not just the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[InputError], tuple[list[Problem]]]:
        return (InputError, (self.problems,))


def nearest_segments(name: str, known: Sequence[str]) -> str:
    """What to do about a segment that is none of those known: the nearest of them, if any is near."""
    near = difflib.get_close_matches(name, known, n=NEAREST)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else "name a segment as the listing has it"
