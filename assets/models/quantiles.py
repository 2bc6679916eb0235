"""Quantiles around a forecast: offsets that a listing has for each segment, by stretch of the horizon and level.

Where they come from: `assets.evaluation.conformal`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_BLOCKS = 4
# columns of a listing: levels as text, offsets (blocks, levels) as float64, and whether no label was below 0
LEVELS, OFFSETS, NEVER_NEGATIVE = "quantile_levels", "quantile_offsets", "never_negative"
QUANTILES = pa.schema([(LEVELS, pa.string()), (OFFSETS, pa.binary()), (NEVER_NEGATIVE, pa.bool_())])


@dataclass(frozen=True)
class Quantiles:
    """A segment's quantiles: what is added to its forecast, by block of the horizon and level."""

    levels: tuple[float, ...] = ()
    offsets: Floats = field(default_factory=lambda: np.empty((0, 0)))
    never_negative: bool = False

    def around(self, forecast: Floats, steps: Ints, horizon: int, levels: Sequence[float]) -> Floats:
        """Quantiles (rows, levels) of forecasts so many steps ahead; NaN at levels that it has none for.

        They do not cross, and none is below 0 where no label ever was, but for a forecast that is itself.
        """
        found = np.full((len(forecast), len(levels)), np.nan)
        if not self.levels:
            return found
        blocks = block_of_steps(steps, horizon)
        for place, level in enumerate(levels):
            if level in self.levels:
                found[:, place] = forecast + self.offsets[blocks, self.levels.index(level)]
        return np.maximum(found, np.minimum(forecast, 0.0)[:, None]) if self.never_negative else found


NO_QUANTILES = Quantiles()


def quantiles_of(row: Mapping[str, Any]) -> Quantiles:
    """The quantiles in a row of a listing; none in one of an older version of the code."""
    if not row.get(LEVELS) or row.get(OFFSETS) is None:
        return NO_QUANTILES
    levels = levels_of(row[LEVELS])
    return Quantiles(levels, np.frombuffer(row[OFFSETS]).reshape(-1, len(levels)), bool(row[NEVER_NEGATIVE]))


def levels_said(levels: Sequence[float]) -> str:
    """Levels as a listing has them."""
    return " ".join(f"{level:g}" for level in levels)


def levels_of(said: str | None) -> tuple[float, ...]:
    """The inverse of `levels_said`."""
    return tuple(map(float, said.split())) if said else ()


def levels_in(listing: pa.Table) -> tuple[float, ...]:
    """Levels of the quantiles that any segment of a listing has."""
    return tuple(sorted({level for said in pc.unique(listing[LEVELS]).to_pylist() for level in levels_of(said)}))


def quantile_name(level: float) -> str:
    """The column of a level: `p05`, `p50`, `p97_5`."""
    whole, _, rest = f"{100 * level:.10g}".partition(".")
    return f"p{whole:0>2}" + (f"_{rest}" if rest else "")


def blocks_of_horizon(horizon: int) -> list[tuple[int, int]]:
    """First and last step of each block of a horizon, counted from 1."""
    ends = np.linspace(0, horizon, min(MOST_BLOCKS, horizon) + 1).round().astype(int).tolist()
    return [(start + 1, end) for start, end in pairwise(ends)]


def steps_of(periods: Ints, last: int, horizon: int) -> Ints:
    """How many periods ahead each is forecast if `last` is that of the last label; one of the past a horizon."""
    return np.where(periods > last, periods - last, horizon)


def block_of_steps(steps: Ints, horizon: int) -> Ints:
    """The block of a horizon that each step lies in; the last one's for steps beyond."""
    ends = [end for _, end in blocks_of_horizon(horizon)]
    return np.minimum(np.searchsorted(ends, steps), len(ends) - 1)
