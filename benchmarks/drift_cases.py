"""Made-up and real tables for the benchmark of drift: quiet ones, and what is done to some of their segments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FIRST = 17_000  # the first period, a day in 2016
BURNT_IN = 60
WHOLE = 0.9  # share of the periods that a segment has rows for


@dataclass(frozen=True)
class Made:
    """A table as arrays (segments, features, rows), which features are categories, and its frequency."""

    values: Floats
    categories: NDArray[np.bool_]
    frequency: str = "D"
    periods: NDArray[np.int64] | None = None


def autoregressive(shape: tuple[int, ...], rho: float, draw: np.random.Generator) -> Floats:
    """Standard normal AR(1) series along the last axis."""
    noise = draw.standard_normal((*shape[:-1], shape[-1] + BURNT_IN)) * np.sqrt(1 - rho**2)
    found = noise.copy()
    found[..., 0] /= np.sqrt(1 - rho**2)
    for place in range(1, found.shape[-1]):
        found[..., place] += rho * found[..., place - 1]
    return found[..., BURNT_IN:]


def numbers(values: Floats) -> Made:
    """A table of numbers only."""
    return Made(values, np.zeros(values.shape[1], dtype=bool))


def of_autoregression(rho: float) -> Callable[[tuple[int, ...], np.random.Generator], Made]:
    """Tables of AR(1) series."""
    return lambda shape, draw: numbers(autoregressive(shape, rho, draw))


def seasonal(shape: tuple[int, ...], draw: np.random.Generator) -> Made:
    """AR(1) 0.6 about a week and a year of each series' own size and phase."""
    days, size = np.arange(shape[-1]) + FIRST, (*shape[:-1], 1)
    year = draw.uniform(0, 3, size) * np.sin(2 * np.pi * days / 365.25 + draw.uniform(0, 6, size))
    week = np.take_along_axis(draw.normal(0, 1.5, (*shape[:-1], 7)), np.broadcast_to(days % 7, shape), axis=-1)
    return numbers(autoregressive(shape, 0.6, draw) + year + week)


def holidays(shape: tuple[int, ...], draw: np.random.Generator) -> Made:
    """AR(1) 0.6, and weeks that move all segments together, a third of them by a standard deviation."""
    weeks = draw.normal(0, 1, shape[-1] // 7 + 1) * (draw.random(shape[-1] // 7 + 1) < 1 / 3)
    common = np.repeat(weeks, 7)[: shape[-1]]
    return numbers(autoregressive(shape, 0.6, draw) + common)


def heavy(shape: tuple[int, ...], draw: np.random.Generator) -> Made:
    """Sales: the exponential of AR(1) 0.6, each segment with a level and spread of its own."""
    spread = draw.uniform(0.3, 1.2, (shape[0], 1, 1))
    return numbers(np.exp(draw.normal(3, 1, (shape[0], 1, 1)) + spread * autoregressive(shape, 0.6, draw)))


def counts(shape: tuple[int, ...], draw: np.random.Generator) -> Made:
    """Slow sellers: Poisson counts of a rate that goes by AR(1) 0.8, from 0.2 to 20 a day."""
    level = np.exp(draw.uniform(np.log(0.2), np.log(20), (shape[0], 1, 1)))
    return numbers(draw.poisson(level * np.exp(0.3 * autoregressive(shape, 0.8, draw))).astype(float))


def categories(shape: tuple[int, ...], draw: np.random.Generator) -> Made:
    """Four categories that mostly stay as they were the day before, with a tenth of the cells empty."""
    cut = np.digitize(autoregressive(shape, 0.8, draw), [-0.8, 0.0, 1.0]).astype(float)
    return Made(np.where(draw.random(shape) < 0.1, np.nan, cut), np.ones(shape[1], dtype=bool))


QUIET: dict[str, Callable[[tuple[int, ...], np.random.Generator], Made]] = {
    "independent rows": of_autoregression(0.0),
    "AR(1) 0.6": of_autoregression(0.6),
    "AR(1) 0.8": of_autoregression(0.8),
    "week and year, AR(1) 0.6": seasonal,
    "weeks that move all, AR(1) 0.6": holidays,
    "heavy tails, AR(1) 0.6": heavy,
    "counts, AR(1) 0.8": counts,
    "categories, AR(1) 0.8, a tenth empty": categories,
}
Change = Callable[[Floats, float, np.random.Generator], Floats]


def mean_shift(window: Floats, size: float, _: np.random.Generator) -> Floats:
    """So many standard deviations more."""
    return window + size


def wider(window: Floats, size: float, _: np.random.Generator) -> Floats:
    """So many times the standard deviation."""
    return window * size


def new_category(window: Floats, size: float, draw: np.random.Generator) -> Floats:
    """So large a share of the rows in a category that was never there."""
    return np.where(draw.random(window.shape) < size, 9.0, window)


def emptied(window: Floats, size: float, draw: np.random.Generator) -> Floats:
    """So large a share of the cells empty."""
    return np.where(draw.random(window.shape) < size, np.nan, window)


def weekly(values: Floats, size: float) -> Floats:
    """With weekdays that differ: a standard deviation of so much between them."""
    return values + size * np.sin(2 * np.pi * (np.arange(values.shape[-1]) + FIRST) / 7) * np.sqrt(2)


def walmart(file: Path, segments: int) -> Made:
    """The weekly retail table: label and what it brings, of segments of all stores that have nearly all weeks."""
    columns = ["Weekly_Sales", "Temperature", "Fuel_Price", "CPI", "Unemployment", "IsHoliday"]
    return _real(pd.read_parquet(file), ["Store", "Dept"], "Date", columns, "W-FRI", segments)


def beijing(file: Path) -> Made:
    """The hourly air quality table: the label and the other measurements of each station."""
    columns = ["PM2.5", "PM10", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM"]
    table = pd.read_parquet(file)
    return _real(table, ["station"], "timestamp", [name for name in columns if name in table], "h", 12)


def _real(
    table: pd.DataFrame, segment: list[str], time: str, columns: list[str], frequency: str, segments: int
) -> Made:
    from assets.raw.calendar import Calendar

    times = pd.DatetimeIndex(pd.to_datetime(table[time]).unique()).sort_values()
    periods = Calendar(frequency).periods(times)
    table = table.assign(__place=np.searchsorted(times, pd.to_datetime(table[time])))
    whole = [group for group in table.groupby(segment) if len(group[1]) >= WHOLE * len(times)]
    groups = whole[:: max(1, len(whole) // segments)][:segments]  # of all stores
    values = np.full((len(groups), len(columns), len(times)), np.nan)
    for place, (_, rows) in enumerate(groups):
        values[place][:, rows["__place"]] = rows[columns].to_numpy(dtype=float).T
    return Made(values, np.zeros(len(columns), dtype=bool), frequency, periods)
