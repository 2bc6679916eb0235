"""What the segments of a raw table are like, in one pass: how many, how regular, how many can be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from assets.raw.calendar import COARSER, base, coarser
from assets.raw.parse import KEY, PERIOD, TIME, with_period
from assets.raw.profile import Timeline
from assets.raw.recipe import Recipe
from resources.problems import Problem

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

REGULAR = 0.9
MIXED_SHARE = 0.1
STEPS_TO_TELL = 5
ONE_FREQUENCY = "bring the table to one frequency, or make a fleet for each"


class SegmentFacts(NamedTuple):
    """Counts over segments, by frequency the fleet's own first.

    `steps`: moves by one period of it; `regular`: segments that nearly always move so; `told`: segments with
    enough moves to tell; `moves`: all moves.
    """

    segments: int
    trainable: int
    moves: int
    told: int
    steps: dict[str, int]
    regular: dict[str, int]


def segment_facts(moments: DataFrame, timeline: Timeline, recipe: Recipe) -> SegmentFacts:
    """Facts about the segments of a table, from `moments_of` its rows."""
    from pyspark.sql import functions as F

    cut_off = timeline.last_period - recipe.holdout
    usable = moments.where(f"usable > 0 and {TIME} is not null")
    placed = with_period(usable, timeline.calendar, timeline.first_time, timeline.last_time)
    periods = placed.where(f"{PERIOD} is not null")
    before = f"{PERIOD} - lag({PERIOD}) over (partition by {KEY} order by {PERIOD})"
    moves = periods.select(KEY, PERIOD, "label", F.expr(before).alias("step"))
    steps = {timeline.frequency: (1,), **coarser(timeline.frequency)}
    named = list(enumerate(steps.values()))
    trained_on = f"label is not null and {PERIOD} <= {cut_off}"
    by_segment = moves.groupBy(KEY).agg(
        F.expr("count(step)").alias("moves"),
        F.expr(f"count_if({trained_on})").alias("rows"),
        F.expr(f"min(label) filter (where {trained_on})").alias("lowest"),
        F.expr(f"max(label) filter (where {trained_on})").alias("highest"),
        *[F.expr(f"count_if(step in {_tuple(lengths)})").alias(f"step_{n}") for n, lengths in named],
    )
    enough = f"moves >= {STEPS_TO_TELL}"
    row = by_segment.agg(
        F.count("*").alias("segments"),
        F.expr(f"count_if(rows >= {recipe.minimum_history} and lowest < highest)").alias("trainable"),
        F.expr("coalesce(sum(moves), 0)").alias("moves"),
        F.expr(f"count_if({enough})").alias("told"),
        *[F.expr(f"coalesce(sum(step_{n}), 0)").alias(f"step_{n}") for n, _ in named],
        *[F.expr(f"count_if({enough} and step_{n} >= {REGULAR} * moves)").alias(f"regular_{n}") for n, _ in named],
    ).first()
    assert row is not None, "an aggregate without groups gives one row"
    counted = {name: row[f"step_{n}"] for n, name in enumerate(steps)}
    regular = {name: row[f"regular_{n}"] for n, name in enumerate(steps)}
    return SegmentFacts(row["segments"], row["trainable"], row["moves"], row["told"], counted, regular)


def _tuple(lengths: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, lengths))})"


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
