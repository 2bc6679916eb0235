"""What the segments of a raw table are like: how many, how regular, how many can be trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from assets.raw.calendar import COARSER, Calendar, base, coarser
from assets.raw.parse import KEY, TIME
from assets.raw.profile import Timeline
from assets.raw.recipe import Recipe
from resources.problems import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

REGULAR = 0.9
MIXED_SHARE = 0.1
STEPS_TO_TELL = 5
ONE_FREQUENCY = "bring the table to one frequency, or make a fleet for each"


class SegmentFacts(NamedTuple):
    """Counts over segments, by frequency the fleet's own first.

    `steps`: moves by one period of it; `regular`: segments that nearly always move so; `told`: segments with
    enough moves to tell; `moves`: all moves; `repeated`: whether several rows have the same segment and time.
    """

    segments: int
    trainable: int
    moves: int
    told: int
    repeated: bool
    steps: dict[str, int]
    regular: dict[str, int]


def _names(question: Question) -> list[str]:
    numbered = [f"{what}_{number}" for number in range(len(question.steps)) for what in ("step", "regular")]
    return ["segments", "trainable", "moves", "told", *numbered, "repeated"]


def facts_of(parts: Iterable[Mapping[str, int]], question: Question) -> SegmentFacts:
    """Facts about all segments, from `counts_of` some of them each."""
    total = dict.fromkeys(_names(question), 0)
    for part in parts:
        total = {name: many + part[name] for name, many in total.items()}
    return SegmentFacts(
        total["segments"],
        total["trainable"],
        total["moves"],
        total["told"],
        total["repeated"] > 0,
        {name: total[f"step_{n}"] for n, name in enumerate(question.steps)},
        {name: total[f"regular_{n}"] for n, name in enumerate(question.steps)},
    )


@dataclass(frozen=True)
class Question:
    """What is asked of segments: on which calendar, how many rows up to which period training needs, and which steps
    (in periods) belong to which frequency.
    """

    calendar: Calendar
    trained_through: int
    fewest: int
    steps: dict[str, tuple[int, ...]]


def question_of(timeline: Timeline, recipe: Recipe) -> Question:
    """What is asked of a table's segments."""
    steps = {timeline.frequency: (1,), **coarser(timeline.frequency)}
    return Question(timeline.calendar, timeline.last_period - recipe.holdout, recipe.minimum_history, steps)


def counts_of(rows: pa.Table, asked: Question) -> dict[str, int]:
    """Counts over whole segments, from the moments of their rows: `__segment`, `__time`, `usable`, `label`."""
    segment, (times, time) = _codes(rows[KEY]), _times(rows[TIME])
    on_grid = asked.calendar.holds(times) if len(times) else np.zeros(0, bool)
    number = np.zeros(len(times), np.int64)
    number[on_grid] = asked.calendar.periods(times[on_grid])
    usable, label = rows["usable"].to_numpy(), rows["label"].to_numpy()
    at = segment * max(1, len(times)) + time
    if not (at[1:] > at[:-1]).all():
        order = np.argsort(at, kind="stable")
        at, segment, time, usable, label = (column[order] for column in (at, segment, time, usable, label))
    kept = usable & on_grid[time]
    found = _by_segment(segment[kept], number[time[kept]], label[kept], asked)
    return {**found, "repeated": int((at[1:] == at[:-1]).any())}


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return column.dictionary_encode().combine_chunks().indices.to_numpy().astype(np.int64)


def _times(column: pa.ChunkedArray) -> tuple[pd.DatetimeIndex, NDArray[np.int64]]:
    """The distinct times, sorted, and the place of each row's own among them."""
    encoded = column.dictionary_encode().combine_chunks()
    distinct = encoded.dictionary.to_numpy()
    order = np.argsort(distinct)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return pd.DatetimeIndex(distinct[order]).as_unit("ns"), rank[encoded.indices.to_numpy()]


def _by_segment(
    segment: NDArray[np.int64], period: NDArray[np.int64], label: NDArray[np.float64], asked: Question
) -> dict[str, int]:
    """Counts from rows sorted by segment and period."""
    new = np.concatenate([[True], segment[1:] != segment[:-1]])[: len(segment)]
    first = new | (np.diff(period, prepend=0) != 0)
    if not first.all():  # of several rows at one time the highest label
        label = np.fmax.reduceat(label, np.flatnonzero(first))
        period, new = period[first], new[first]
    starts = np.flatnonzero(new)
    many, own = len(starts), np.cumsum(new) - 1
    step = np.where(new, 0, np.diff(period, prepend=0))
    moves = np.diff(starts, append=len(new)) - 1
    learnt = ~np.isnan(label) & (period <= asked.trained_through)
    counted = np.bincount(own[learnt], minlength=many)
    found = {"segments": many, "trainable": 0, "moves": int(moves.sum())}
    if many:
        lowest = np.minimum.reduceat(np.where(learnt, label, np.inf), starts)
        highest = np.maximum.reduceat(np.where(learnt, label, -np.inf), starts)
        found["trainable"] = int(((counted >= asked.fewest) & (lowest < highest)).sum())
    told = moves >= STEPS_TO_TELL
    found["told"] = int(told.sum())
    for place, lengths in enumerate(asked.steps.values()):
        such = np.bincount(own[np.isin(step, lengths)], minlength=many)
        found[f"step_{place}"] = int(such.sum())
        found[f"regular_{place}"] = int((told & (such >= REGULAR * moves)).sum())
    return found


def mixed_frequencies(facts: SegmentFacts, timeline: Timeline) -> list[Problem]:
    """A problem where segments move in steps of different frequencies, or all in steps of a coarser one."""
    own, where = timeline.frequency, "fleet.yaml frequency"
    if not facts.told:
        return []
    common = [name for name, segments in facts.regular.items() if segments >= MIXED_SHARE * facts.told]
    if len(common) > 1:
        shown = ", ".join(f"{facts.regular[name]} segments move by 1 {_alias(name, timeline)}" for name in common)
        return [Problem(where, f"frequencies are mixed: {shown}", ONE_FREQUENCY)]
    if common and common[0] != own and facts.regular[common[0]] >= REGULAR * facts.told:
        name = _alias(common[0], timeline)
        what = f"is {own!r}, but {facts.regular[common[0]]} of {facts.told} segments move by 1 {name}"
        return [Problem(where, what, f"set frequency to {name}")]
    for name in COARSER.get(base(own), {}):
        shares = [facts.steps[own] / facts.moves, facts.steps.get(name, 0) / facts.moves]
        if min(shares) >= MIXED_SHARE and sum(shares) >= REGULAR:
            shown = f"{shares[0]:.0%} of the moves are by 1 {own}, {shares[1]:.0%} by 1 {_alias(name, timeline)}"
            return [Problem(where, f"frequencies are mixed within segments: {shown}", ONE_FREQUENCY)]
    return []


def _alias(frequency: str, timeline: Timeline) -> str:
    return f"W-{timeline.last_label:%a}".upper() if frequency == "W" else frequency


def untrainable(segments: int, trainable: int, recipe: Recipe) -> list[Problem]:
    """A problem where none of some segments has enough labelled rows that vary before the holdout."""
    if trainable:
        return []
    holdout = f"before the last {recipe.holdout} periods" if recipe.time else "outside the holdout"
    what = (
        f"no segment can be trained: none of {segments} has {recipe.minimum_history} labelled rows that vary {holdout}"
    )
    remedy = "bring more history, choose coarser segments, or lower evaluation.minimum_history"
    return [Problem("fleet.yaml segment", what, remedy)]
