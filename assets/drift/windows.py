"""The tests of one segment: each feature's windows, current and past, against what came before them.

Every feature has four tests. `shape`: Kolmogorov-Smirnov of numbers, chi-square of categories. `size`: the Wasserstein
distance of numbers, which goes on growing where the first has reached one. `spread`: how much wider or narrower numbers
lie, which few rows show in neither. `missing`: chi-square of empty cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assets.drift.dependence import MOST_LAGS, Inflation, autocorrelations
from assets.drift.season import Seasons, adjusted
from assets.drift.statistics import Windows, chi_square_windows, ks_windows, spread_windows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

TESTS = ("shape", "size", "spread", "missing")
MISSING = TESTS.index("missing")
MOST_PAST, FEWEST_PAST = 13, 4  # windows of the past that a current one is measured against
FEWEST_ROWS = 4  # of a window
FEW_VALUES = 10  # numbers of so few values are categories: a flag, a count of rooms
MOST_CATEGORIES = 30
LOOKED_AT = 200
SMALLEST_P = 1e-300
# what can be said of a feature
TESTED, CONSTANT, ALL_NULL = "tested", "constant", "all null"
NEVER_SEEN, TOO_FEW = "never seen at training", "too few"


@dataclass(frozen=True)
class Plan:
    """Where a segment's windows lie: periods up to `trained` are the reference, those after `start` up to `end` the
    current window.
    """

    trained: int
    start: int
    end: int

    @property
    def length(self) -> int:
        """Periods of a window."""
        return self.end - self.start

    def groups(self, periods: Ints) -> tuple[Ints, int]:
        """Each row's window, and how many there are with the oldest part: 0 that part, 1 and on the past, the current
        one last; -1 lies in none.
        """
        past = int(min(MOST_PAST, max(0, self.trained - int(periods[0]) + 1) // 2 // self.length))
        back = (self.trained - periods) // self.length
        groups = np.where(back < past, past - back, 0)
        groups = np.where(periods > self.trained, -1, groups)
        return np.where((periods > self.start) & (periods <= self.end), past + 1, groups), past + 2


@dataclass(frozen=True)
class Compared:
    """What a segment's tests found, and a state a feature.

    `statistics` (features, tests, past windows and the current one; NaN: unknown), `effects` (features, tests) of the
    current window.
    """

    statistics: Floats
    effects: Floats
    states: list[str]


def compared(values: Floats, categories: Flags, periods: Ints, plan: Plan, seasons: Seasons) -> Compared:
    """The tests of a segment's features: `values` (features, rows), where `categories` codes from 0, NaN is null.

    `periods` are sorted. Past windows end at the last one of the reference, and are as long as the current one; where
    fewer fit than there is room for, the first are NaN. Statistics are about standard normal where nothing drifts.
    """
    groups, count = plan.groups(periods)
    used = groups >= 0
    values, periods, groups = values[:, used], periods[used], groups[used]
    reference = groups < count - 1
    nulls = np.isnan(values)
    few = categories | np.array([_few_values(row[~null]) for row, null in zip(values, nulls, strict=True)])
    numbers = np.flatnonzero(~few)
    plain = values.copy()
    plain[numbers] = adjusted(values[numbers], periods, reference, seasons)
    worth = _Worth(plain, nulls, few, reference)
    found = np.full((len(values), len(TESTS), MOST_PAST + 1), np.nan)
    effects = np.full((len(values), len(TESTS)), np.nan)
    states = [_state(null, values[n], reference) for n, null in enumerate(nulls)]
    for n, state in enumerate(states):
        if state == TESTED:
            of_values = _of_categories if few[n] else _of_numbers
            windows = of_values(plain[n][~nulls[n]], groups[~nulls[n]], count, worth, n)
            _put(found[n], effects[n], windows)
        if state != NEVER_SEEN and nulls[n].any() and not nulls[n].all():
            missing = chi_square_windows(nulls[n].astype(np.int64), groups, count, 2)
            _put(
                found[n, MISSING:],
                effects[n, MISSING:],
                [(chi_square_score(missing, worth.of_nulls(n, missing)), missing.effect)],
            )
    return Compared(found, effects, states)


def kolmogorov_score(windows: Windows, effective: Floats) -> Floats:
    """The normal quantile of a distance's asymptotic p-value, the samples counted by their effective size."""
    from scipy.special import kolmogorov

    return _normal(kolmogorov(windows.statistic * np.sqrt(effective)))


def chi_square_score(windows: Windows, effective: Floats) -> Floats:
    """The normal quantile of a chi-square's p-value, the statistic divided by the design effect.

    Rao and Scott 1981, JASA 76, "The analysis of categorical data from complex sample surveys": the first-order
    correction.
    """
    from scipy.special import chdtrc

    assert windows.freedom is not None, "asked of categories"
    nominal = windows.rows * windows.before / np.maximum(windows.rows + windows.before, 1)
    return _normal(chdtrc(np.maximum(windows.freedom, 1), windows.statistic * effective / np.maximum(nominal, 1e-9)))


class _Worth:
    """How a segment's rows go together in time: of ranks, of categories, of empty cells; the reference's rows only."""

    def __init__(self, plain: Floats, nulls: Flags, few: Flags, reference: Flags) -> None:
        self.orders: list[Ints | None] = []
        ranks = np.full(plain.shape, np.nan)
        for n, (row, null) in enumerate(zip(plain, nulls, strict=True)):
            if few[n]:
                self.orders.append(None)
                # one category's cells go together as all do
                known_before = row[reference & ~null]
                ranks[n] = (row == _most_common(known_before)) if len(known_before) else 0.0
                continue
            known = np.flatnonzero(~null)
            order = np.argsort(row[known])
            self.orders.append(order)
            ranks[n, known[order]] = np.arange(len(known))
        self._values = Inflation.of(autocorrelations(ranks[:, reference], MOST_LAGS))
        self._any: Flags = np.asarray(nulls.any(axis=1))
        self._nulls = Inflation.of(autocorrelations(nulls[self._any][:, reference].astype(float), MOST_LAGS))

    def of_values(self, feature: int, windows: Windows) -> Floats:
        return _of_enough(windows, self._values.effective(feature, windows.rows, windows.before))

    def of_nulls(self, feature: int, windows: Windows) -> Floats:
        place = int(np.count_nonzero(self._any[:feature]))
        return _of_enough(windows, self._nulls.effective(place, windows.rows, windows.before))


def _of_enough(windows: Windows, effective: Floats) -> Floats:
    enough = (windows.rows >= FEWEST_ROWS) & (windows.before >= FEWEST_ROWS)
    return np.where(enough, effective, np.nan)


def _of_numbers(values: Floats, groups: Ints, count: int, worth: _Worth, feature: int) -> list[tuple[Floats, Floats]]:
    windows = ks_windows(values, groups, count, worth.orders[feature])
    effective = worth.of_values(feature, windows)
    root, spread = np.sqrt(effective), spread_windows(values, groups, count)
    assert windows.tamed is not None, "of numbers"
    return [
        (kolmogorov_score(windows, effective), windows.effect),
        (windows.tamed * root, windows.effect),
        (spread * root, spread),
    ]


def _of_categories(
    values: Floats, groups: Ints, count: int, worth: _Worth, feature: int
) -> list[tuple[Floats, Floats]]:
    known, codes = np.unique(values, return_inverse=True)
    codes = codes.astype(np.int64)
    if len(known) > MOST_CATEGORIES:
        codes = _merged(codes, groups < count - 1, len(known))
    windows = chi_square_windows(codes, groups, count, int(codes.max()) + 1)
    return [(chi_square_score(windows, worth.of_values(feature, windows)), windows.effect)]


def _merged(codes: Ints, reference: Flags, categories: int) -> Ints:
    """The most frequent categories of the reference, one for its others, and one for those that it lacks."""
    counts = np.bincount(codes[reference], minlength=categories)
    places = np.where(counts > 0, MOST_CATEGORIES - 2, MOST_CATEGORIES - 1)
    places[np.argsort(-counts, kind="stable")[: MOST_CATEGORIES - 2]] = np.arange(MOST_CATEGORIES - 2)
    return places[codes]


def _put(found: Floats, effects: Floats, windows: list[tuple[Floats, Floats]]) -> None:
    for n, (statistic, effect) in enumerate(windows):
        found[n, MOST_PAST + 1 - len(statistic) :] = statistic
        effects[n] = effect[-1]


def _normal(p_values: Floats) -> Floats:
    """Normal quantiles, upper tail; what is no evidence at all lies at the same place."""
    from scipy.special import ndtri

    found: Floats = -ndtri(np.clip(p_values, SMALLEST_P, 0.99))
    return found


def _few_values(known: Floats) -> bool:
    some = known[:: max(1, len(known) // LOOKED_AT)]
    return len(np.unique(some)) <= FEW_VALUES and len(np.unique(known)) <= FEW_VALUES


def _most_common(known: Floats) -> float:
    values, counts = np.unique(known, return_counts=True)
    return float(values[counts.argmax()])


def _state(null: Flags, values: Floats, reference: Flags) -> str:
    before, now = values[reference & ~null], values[~reference & ~null]
    if not len(before):
        return ALL_NULL if not len(now) else NEVER_SEEN
    if len(now) < FEWEST_ROWS or len(before) < FEWEST_ROWS:
        return TOO_FEW
    return CONSTANT if before.min() == before.max() == now.min() == now.max() else TESTED
