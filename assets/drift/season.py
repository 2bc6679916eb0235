"""Like with like: values less what their place in the season lets one expect, so that known structure is no drift.

What is taken off is learnt from the reference alone, and shrunk by how well places in the season are told apart at all
(positive-part James-Stein, Efron and Morris 1973, JASA 68): a series without a season stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assets.raw.calendar import base, seasons

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
LONGEST_CYCLE = 400
UNITS_A_YEAR = {"h": 52, "D": 52, "B": 52, "W": 52, "MS": 12, "ME": 12, "QS": 4, "QE": 4}
FEWEST_PAIRED = 0.5  # of a year, in which the reference must have another year to compare with


@dataclass(frozen=True)
class Seasons:
    """A fleet's seasons in periods: a short cycle (1: none), the unit of the yearly one, and units a year (0: none)."""

    cycle: int
    unit: int
    year: int

    @classmethod
    def of(cls, frequency: str) -> Seasons:
        """The seasons of a frequency: weekdays or hours of the week, and weeks, months or quarters of the year."""
        family, natural = base(frequency), seasons(frequency)
        short = [each for each in natural if each <= LONGEST_CYCLE and each not in (364, 260)]
        year = UNITS_A_YEAR.get(family, 0)
        if family in ("W", "MS", "ME", "QS", "QE"):
            return cls(1, 1, natural[-1] if natural[-1] > 1 else 0)
        cycle = max(short, default=1)
        return cls(cycle, cycle, year)


def adjusted(values: Floats, periods: Ints, reference: Flags, seasons: Seasons) -> Floats:
    """Values (tests, rows) less the expected of their weekday or hour, and of their week of the year; NaN stays."""
    if not len(values) or not reference.any():
        return values
    if seasons.cycle > 1:
        values = values - _by_phase(values, periods % seasons.cycle, reference, seasons.cycle)
    if seasons.year:
        values = values - _by_year(values, periods // seasons.unit, reference, seasons.year)
    return values


def _by_phase(values: Floats, phases: Ints, reference: Flags, cycle: int) -> Floats:
    """The shrunk mean of each row's phase less that of all rows."""
    known = reference & np.isfinite(values)
    cell = (np.arange(len(values))[:, None] * cycle + phases).ravel()
    count, total = (
        np.bincount(cell, weights=each.ravel(), minlength=len(values) * cycle).reshape(-1, cycle)
        for each in (known.astype(float), np.where(known, values, 0.0))
    )
    rows = np.maximum(count.sum(axis=1, keepdims=True), 1)
    overall = total.sum(axis=1, keepdims=True) / rows
    mean = np.where(count > 0, total / np.maximum(count, 1), overall)
    between = (count * np.square(mean - overall)).sum(axis=1, keepdims=True) / max(cycle - 1, 1)
    squares = np.square(np.where(known, values - mean[:, phases], 0.0)).sum(axis=1, keepdims=True)
    within = squares / np.maximum(rows - cycle, 1)
    kept = np.clip(1 - within / np.maximum(between, np.finfo(float).tiny), 0.0, 1.0)
    return (kept * (mean - overall))[:, phases]


def _by_year(values: Floats, units: Ints, reference: Flags, year: int) -> Floats:
    """What other years of the reference had at each row's unit of the year, shrunk; nothing where there is no other."""
    first = units.min()
    place, year_of = units % year, units // year - first // year
    years = int(year_of.max()) + 1
    cell, cells = year_of * year + place, years * year
    known = reference & np.isfinite(values)
    count, total = (
        np.stack([np.bincount(cell, weights=row, minlength=cells) for row in rows]).reshape(-1, years, year)
        for rows in (known.astype(float), np.where(known, values, 0.0))
    )
    there = count > 0
    mean = np.where(there, total / np.maximum(count, 1), 0.0)
    overall = mean.sum(axis=(1, 2)) / np.maximum(there.sum(axis=(1, 2)), 1)
    apart = np.where(there, mean - overall[:, None, None], 0.0)
    others, sums = there.sum(axis=1, keepdims=True) - there, apart.sum(axis=1, keepdims=True) - apart
    paired = (there & (others > 0)).sum(axis=(1, 2))
    # what years have in common: the mean product of a unit and the mean of its other years
    shared = np.where(there, apart * sums / np.maximum(others, 1), 0.0).sum(axis=(1, 2)) / np.maximum(paired, 1)
    whole = np.square(apart).sum(axis=(1, 2)) / np.maximum(there.sum(axis=(1, 2)), 1)
    signal = np.where(paired >= 2 * FEWEST_PAIRED * year, np.maximum(shared, 0.0), 0.0)[:, None, None]
    noise = np.maximum(whole[:, None, None] - signal, 1e-12)
    expected = sums / np.maximum(others, 1) * (others * signal / (others * signal + noise))
    return expected.reshape(len(values), cells)[:, cell]
