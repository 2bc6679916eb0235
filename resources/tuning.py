"""The section `tuning` of `fleet.yaml`: whether parameters are searched for the fleet, and what that may cost."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from resources.section import Section


def _share(value: Any) -> Any:
    """`10%` as 0.1; anything else as it is."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip().removesuffix("%")) / 100
        except ValueError:
            return value
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Tuning(Section):
    """A search of parameters for the fleet, by size of segment: docs/accuracy.md.

    `enabled`: whether what a search found is used, and any is made unasked. `budget`: fits that a search may cost, as a
    share (0.1, or `10%`) of those of a training of all segments. `first_run`: whether the weekly cycle searches where
    that was never done.
    """

    enabled: bool = True
    budget: Annotated[float, Field(gt=0, le=10), BeforeValidator(_share, json_schema_input_type=float | str)] = 0.1
    first_run: bool = True
