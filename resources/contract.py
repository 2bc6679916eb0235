"""The contract of `fleet.yaml`: what columns and rows must be like, and what happens where they are not."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from resources.section import Names, Section, Share

Action = Literal["warn", "drop", "fail"]
ColumnType = Literal["number", "boolean", "text", "time"]
Bound = float | datetime | date
MOST_EXPECTATIONS = 1_000


class ColumnContract(Section):
    """What a column holds. `unit` is for people; the rest are rules, and `action` says what breaking one does.

    Empty cells break only `nullable: false`. `tolerance` is the share of the rows read that may break a rule before a
    check warns (`warn`), a blocking check fails (`drop`; by default any share may go to quarantine) or nothing is
    built (`fail`).
    """

    type: ColumnType | None = None
    nullable: bool = True
    unit: str | None = None
    minimum: Bound | None = None
    maximum: Bound | None = None
    allowed: Annotated[list[str | int | float | bool], Field(min_length=1)] | None = None
    action: Action = "drop"
    tolerance: Share | None = None

    @model_validator(mode="after")
    def _bounds_in_order(self) -> ColumnContract:
        low, high = self.minimum, self.maximum
        if self.type in ("text", "boolean") and (low is not None or high is not None):
            raise ValueError(f"minimum and maximum mean nothing for {self.type}; write type: number or time")
        if low is not None and high is not None:
            if isinstance(low, float | int) != isinstance(high, float | int):
                raise ValueError("minimum and maximum are of different types; write two numbers or two dates")
            if str(low) > str(high) if not isinstance(low, float | int) else low > high:  # type: ignore[operator]
                raise ValueError(f"minimum {low} is above maximum {high}")
        return self


class Expectation(Section):
    """A named SQL predicate over one row, such as `price > 0 or promotion`; a row for which it is false breaks it."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    predicate: str = Field(min_length=1)
    action: Action = "drop"
    tolerance: Share | None = None


def _distinct(expectations: list[Expectation]) -> list[Expectation]:
    twice = [name for name, count in Counter(each.name for each in expectations).items() if count > 1]
    if twice:
        raise ValueError(f"names are given twice: {', '.join(twice)}")
    return expectations


class Contract(Section):
    """Rules for columns, former names of columns (`aliases`), and expectations."""

    columns: dict[str, ColumnContract] = {}
    aliases: dict[str, Names] = {}
    expectations: Annotated[list[Expectation], Field(max_length=MOST_EXPECTATIONS), AfterValidator(_distinct)] = []

    @model_validator(mode="after")
    def _one_meaning_a_name(self) -> Contract:
        former = Counter(name for names in self.aliases.values() for name in names)
        twice = [name for name, count in former.items() if count > 1 or name in self.aliases]
        if twice:
            raise ValueError(f"aliases lead two ways: {', '.join(twice)}; a name stands for one column")
        return self

    def names_of(self, column: str) -> list[str]:
        """All names that a column goes by, its own first."""
        return [column, *self.aliases.get(column, [])]
