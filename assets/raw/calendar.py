"""Calendar periods: the regular grid of times on which lags, holdouts and horizons are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPOCH = pd.Timestamp("1970-01-01")
DAY = 86_400_000_000_000
FIRST_SENSIBLE, LAST_SENSIBLE = "1900-01-01", "2200-01-01"
MOST_PERIODS = 5_000_000
ON_GRID = 0.99
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
CANDIDATES = (
    "YS", "YE", "QS", "QE", "MS", "ME", *(f"W-{day}" for day in WEEKDAYS),
    "B", "D", "12h", "8h", "6h", "4h", "3h", "2h", "h", "30min", "15min", "10min", "5min", "min", "s",
)  # fmt: skip


@dataclass(frozen=True)
class Calendar:
    """A pandas frequency and its phase (how far into the unit its times lie, in nanoseconds)."""

    frequency: str
    phase: int = 0

    def times(self, first: pd.Timestamp, last: pd.Timestamp, beyond: int = 0) -> pd.DatetimeIndex:
        """Grid times from `first` to `last` (both rounded inwards), and `beyond` periods more."""
        offset = pd.tseries.frequencies.to_offset(self.frequency)
        start = self._aligned(first)
        grid = pd.date_range(start, last, freq=offset)
        grid = grid[grid >= first]
        if not beyond or not len(grid):
            return grid
        return pd.date_range(grid[0], periods=len(grid) + beyond, freq=offset)

    @property
    def unit(self) -> int:
        """Nanoseconds of a period of fixed length; 0 where lengths differ or weekdays matter."""
        return _unit(self.frequency)

    def holds(self, times: pd.DatetimeIndex) -> NDArray[np.bool_]:
        """Which of some sorted times are grid times."""
        if self.unit:
            return (nanoseconds(times) - self.phase) % self.unit == 0
        return np.asarray(times.isin(self.times(times[0], times[-1])))

    def periods(self, times: pd.DatetimeIndex) -> NDArray[np.int64]:
        """`period_of` each of some sorted grid times."""
        if self.unit or not len(times):
            return (nanoseconds(times) - self.phase) // (self.unit or 1)
        grid = self.times(times[0], times[-1])
        return self.period_of(grid[0]) + np.searchsorted(nanoseconds(grid), nanoseconds(times))

    def periods_since(self, then: pd.Timestamp, now: pd.Timestamp) -> int:
        """Whole periods from a grid time to a later time."""
        if self.unit:
            return max(0, (now.value - then.value) // self.unit)
        return max(0, len(self.times(then, now)) - 1)

    def period_of(self, time: pd.Timestamp) -> int:
        """Number of the grid time, counted from 1970, so that it does not move when rows are added."""
        if self.unit:
            return int((time.value - self.phase) // self.unit)
        day = time.normalize()
        if day >= EPOCH:
            return len(pd.date_range(EPOCH, day, freq=self.frequency))
        return 1 - len(pd.date_range(day, EPOCH, freq=self.frequency, inclusive="left"))

    def _aligned(self, first: pd.Timestamp) -> pd.Timestamp:
        unit = self.unit or DAY
        return pd.Timestamp((first.value - self.phase) // unit * unit + self.phase)


def nanoseconds(times: pd.DatetimeIndex) -> NDArray[np.int64]:
    """Times as nanoseconds since 1970."""
    return times.to_numpy("datetime64[ns]").astype(np.int64)


def _unit(frequency: str) -> int:
    offset = pd.tseries.frequencies.to_offset(frequency)
    return int(offset.nanos) if isinstance(offset, pd.offsets.Tick) else 0


def calendar_of(frequency: str, times: pd.DatetimeIndex, rows: NDArray[np.int64]) -> Calendar:
    """The calendar of a frequency whose phase is that of most rows."""
    phases = pd.Series(rows).groupby(nanoseconds(times) % (_unit(frequency) or DAY)).sum()
    return Calendar(frequency, int(phases.idxmax()))


def share_on_grid(calendar: Calendar, times: pd.DatetimeIndex, rows: NDArray[np.int64]) -> float:
    """Share of the rows, between 0 and 1, whose time is a grid time."""
    return float(rows[calendar.holds(times)].sum() / rows.sum())


def infer_calendar(times: pd.DatetimeIndex, rows: NDArray[np.int64]) -> Calendar | None:
    """The coarsest candidate on which nearly all rows lie; None if not even seconds fit.

    `times` are distinct and sorted, `rows` counts the rows at each.
    """
    for frequency in CANDIDATES:
        calendar = calendar_of(frequency, times, rows)
        if share_on_grid(calendar, times, rows) >= ON_GRID:
            return calendar
    return None


# what a table of another frequency looks like on a finer grid: the lengths of its steps, in periods
COARSER: dict[str, dict[str, tuple[int, ...]]] = {
    "s": {"min": (60,), "h": (3600,), "D": (86400,)},
    "min": {"5min": (5,), "10min": (10,), "15min": (15,), "30min": (30,), "h": (60,), "D": (1440,)},
    "h": {"D": (24,), "W": (168,)},
    "D": {"W": (7,), "MS": (28, 29, 30, 31)},
    "B": {"W": (5,), "MS": (20, 21, 22, 23)},
    "W": {"MS": (4, 5), "YS": (52, 53)},
    "MS": {"QS": (3,), "YS": (12,)},
    "ME": {"QE": (3,), "YE": (12,)},
    "QS": {"YS": (4,)},
    "QE": {"YE": (4,)},
}
MULTIPLES = (2, 3, 4)
DEFAULT_HORIZON = {"s": 60, "min": 60, "h": 24, "D": 28, "B": 20, "W": 8, "MS": 6, "ME": 6, "QS": 4, "QE": 4}
DEFAULT_HOLDOUT = {
    "s": 3600, "min": 7 * 1440, "h": 672, "D": 28, "B": 20, "W": 8, "MS": 6, "ME": 6, "QS": 4, "QE": 4,
}  # fmt: skip
SEASONS = {
    "s": (3600,), "min": (1440,), "h": (24, 168), "D": (7, 364), "B": (5, 260), "W": (52,),
    "MS": (12,), "ME": (12,), "QS": (4,), "QE": (4,),
}  # fmt: skip


def coarser(frequency: str) -> dict[str, tuple[int, ...]]:
    """Coarser frequencies by name, each with its steps counted in periods of `frequency`."""
    offset = pd.tseries.frequencies.to_offset(frequency)
    natural = {
        name: tuple(step // offset.n for step in steps)
        for name, steps in COARSER.get(base(frequency), {}).items()
        if all(step % offset.n == 0 and step > offset.n for step in steps)
    }
    taken = {step for steps in natural.values() for step in steps}
    multiples = {f"{n * offset.n}{offset.rule_code}": (n,) for n in MULTIPLES if n not in taken}
    return {**natural, **multiples}


def base(frequency: str) -> str:
    """Family of a frequency: `W` for W-FRI, `h` for 2h."""
    offset = pd.tseries.frequencies.to_offset(frequency)
    return offset.rule_code.split("-", 1)[0].replace("BMS", "MS").replace("BME", "ME")


def seasons(frequency: str) -> tuple[int, ...]:
    """Natural seasons in periods, shortest first; (1,) where none is known."""
    multiple = pd.tseries.frequencies.to_offset(frequency).n
    natural = SEASONS.get(base(frequency), (1,))
    return tuple(season // multiple for season in natural if season % multiple == 0) or (1,)


def default_horizon(frequency: str) -> int:
    """Periods that users of such a frequency usually forecast."""
    multiple = pd.tseries.frequencies.to_offset(frequency).n
    return max(1, DEFAULT_HORIZON.get(base(frequency), 4) // multiple)


def default_holdout(frequency: str) -> int:
    """Periods that a holdout of such a frequency needs at least."""
    multiple = pd.tseries.frequencies.to_offset(frequency).n
    return max(1, DEFAULT_HOLDOUT.get(base(frequency), 4) // multiple)
