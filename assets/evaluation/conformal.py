"""Split conformal calibration: how far labels lie from what is served, on rows that chose and fitted nothing.

On the holdout, which only judges, each segment's deviations are put into units of the segment's own scale (see
`naive_scales`) and pooled over segments of similar length, by stretch of the horizon: eight deviations of one segment
cannot say what happens once in ten. Their quantiles, in the label's units again, are what is added to a forecast.

Papadopoulos et al., "Inductive confidence machines for regression", ECML 2002; quantiles of signed deviations as in
Linusson, Johansson & Lofstrom, PAKDD 2014; pools by group as in Vovk, Lindsay, Nouretdinov & Gammerman, "Mondrian
confidence machine" (2003).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.models.baseline import naive_scales
from assets.models.bucket import SegmentRows
from assets.models.quantiles import LEVELS, NEVER_NEGATIVE, OFFSETS, block_of_steps, blocks_of_horizon, levels_said
from assets.models.segment import CutOffs
from assets.raw.recipe import Recipe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SIZES = (0, 100, 1_000)  # labelled rows from which a segment is of the next class
FEWEST_SCORES = 100  # that a pool is made of; of fewer the next larger pool is asked
FEWEST_SEGMENTS = 20  # that a class of segments needs for a pool of its own: those of one segment go together
FEWEST_TO_WIDEN = 10  # deviations of a smaller class: what they say may only make intervals wider
ALL_SCORES, FEWEST_A_BLOCK, MOST_A_BLOCK = 200_000, 12, 200
# what a worker tells of a segment: scales of its labels up to the holdout (kept with the error sums), the scale of all,
# how many there are, and deviations in units of the first scale, with the block of the horizon that each lies in
SCALED = pa.schema([("scale", pa.float64()), ("scale_squared", pa.float64())])
SCORES = pa.schema(
    [
        ("next_scale", pa.float64()),
        ("known", pa.int64()),
        (NEVER_NEGATIVE, pa.bool_()),
        ("scores", pa.list_(pa.float64())),
        ("score_blocks", pa.list_(pa.int64())),
    ]
)


def scores_a_block(segments: int) -> int:
    """How many deviations of a segment and block are pooled in a fleet of so many segments: all are bounded."""
    return int(np.clip(ALL_SCORES // max(1, 4 * segments), FEWEST_A_BLOCK, MOST_A_BLOCK))


def segment_scores(
    rows: SegmentRows, inside: NDArray[np.bool_], served: Floats, recipe: Recipe, cut_offs: CutOffs, most: int
) -> dict[str, Any]:
    """What a segment adds to the pools (see `SCALED`, `SCORES`); nothing if its labels are 0 and 1.

    `served` is what was said of the rows `inside` the holdout. At most so many of a block count, evenly spaced.
    """
    if recipe.model["objective"] == "binary":
        return {}
    before, whole = rows.periods <= cut_offs.holdout, rows.periods <= cut_offs.last
    scale, squared = naive_scales(rows.periods[before], rows.labels[before], recipe.season)
    labels = rows.labels[whole]
    found: dict[str, Any] = {
        "scale": scale,
        "scale_squared": squared,
        "next_scale": naive_scales(rows.periods[whole], labels, recipe.season)[0],
        "known": int(np.isfinite(rows.labels[before]).sum()),
        NEVER_NEGATIVE: not (labels < 0).any(),
    }
    deviations = rows.labels[inside] - served
    usable = np.isfinite(deviations)
    if scale <= 0 or not usable.any():
        return found
    blocks = block_of_steps(steps_ahead(rows.periods[inside], cut_offs.holdout, recipe), recipe.horizon)
    some = np.concatenate([_spaced(np.flatnonzero(usable & (blocks == block)), most) for block in np.unique(blocks)])
    return {**found, "scores": (deviations[some] / scale).tolist(), "score_blocks": blocks[some].tolist()}


def steps_ahead(periods: Ints, origin: int, recipe: Recipe) -> Ints:
    """How many periods after its forecast's origin each lies, which moves on by a horizon; 1 in tables without time."""
    return (periods - origin - 1) % recipe.horizon + 1 if recipe.time else np.ones_like(periods)


def _spaced(places: Ints, most: int) -> Ints:
    return places if len(places) <= most else places[np.linspace(0, len(places) - 1, most).round().astype(int)]


@dataclass(frozen=True)
class Pool:
    """Deviations of all segments: which segment and block each is of, and the segments' classes by size."""

    scores: Floats
    segments: Ints
    blocks: Ints
    sizes: Ints

    def quantiles(self, levels: Sequence[float], blocks: int, among: NDArray[np.bool_]) -> Floats:
        """Quantiles (classes, blocks, levels) of the deviations `among` all; NaN where they are too few.

        A class that is too small for quantiles of its own has those of the larger pool, or its own where they lie
        farther out: short segments are harder to forecast than long ones.
        """
        found = np.full((len(SIZES), blocks, len(levels)), np.nan)
        whole = _conformal(self.scores[among], levels, FEWEST_SCORES)
        for block in range(blocks):
            of_block = among & (self.blocks == block)
            spare = _conformal(self.scores[of_block], levels, FEWEST_SCORES)
            for size in range(len(SIZES)):
                mine = of_block & (self.sizes[self.segments] == size)
                is_many = len(np.unique(self.segments[mine])) >= FEWEST_SEGMENTS
                own = _conformal(self.scores[mine], levels, FEWEST_SCORES) if is_many else None
                larger = spare if spare is not None else whole
                few = _conformal(self.scores[mine], levels, FEWEST_TO_WIDEN)
                found[size, block] = own if own is not None else _farther_out(larger, few, levels)
        return found


def _farther_out(larger: Floats | None, few: Floats | None, levels: Sequence[float]) -> Floats | None:
    """The quantiles of a larger pool, or those of a few where they are farther from the middle."""
    if larger is None or few is None:
        return larger
    below, above = np.array(levels) < 0.5, np.array(levels) > 0.5
    return np.where(below, np.minimum(larger, few), np.where(above, np.maximum(larger, few), larger))


def _conformal(scores: Floats, levels: Sequence[float], fewest: int) -> Floats | None:
    """Quantiles that a new deviation of the same kind is below as often as the levels say, or a little farther out."""
    count = len(scores)
    if count < fewest:
        return None
    ordered = np.sort(scores)
    places = [np.ceil((count + 1) * x) if x >= 0.5 else np.floor((count + 1) * x) for x in levels]
    return ordered[np.clip(places, 1, count).astype(int) - 1]


def calibrated(sums: pa.Table, levels: Sequence[float], recipe: Recipe) -> tuple[pa.Table, dict[str, Any] | None]:
    """Each judged segment's columns of `QUANTILES`, and what they are worth; None without enough deviations.

    `sums` has the columns of `SCALED` and `SCORES`, a row a segment. What they are worth is measured on deviations
    that had no part in it: half of the segments is measured by the quantiles of the other half.
    """
    ordered = sums.sort_by("segment")
    pool, blocks = _pool(ordered), len(blocks_of_horizon(recipe.horizon))
    everywhere = np.ones(len(pool.scores), dtype=bool)
    units = pool.quantiles(levels, blocks, everywhere)
    if not levels or np.isnan(units).any():
        return _columns(ordered, None, levels), None
    scale = _column(ordered, "next_scale")
    usual = np.median(scale[scale > 0]) if (scale > 0).any() else 0.0  # of a segment that nothing is known of
    scale = np.where(_column(ordered, "known") > 0, scale, usual)
    offsets = units[pool.sizes] * scale[:, None, None]
    return _columns(ordered, offsets, levels), _measured(ordered, pool, levels, recipe)


def _pool(ordered: pa.Table) -> Pool:
    scores, sizes = ordered["scores"].combine_chunks(), _column(ordered, "known")
    counts = pc.fill_null(pc.list_value_length(scores), 0).to_numpy()
    return Pool(
        scores.flatten().to_numpy(),
        np.repeat(np.arange(len(ordered)), counts),
        ordered["score_blocks"].combine_chunks().flatten().to_numpy(),
        np.searchsorted(SIZES, sizes, side="right") - 1,
    )


def _column(rows: pa.Table, name: str) -> Floats:
    return np.nan_to_num(rows[name].cast(pa.float64()).to_numpy(zero_copy_only=False))


def _columns(ordered: pa.Table, offsets: Floats | None, levels: Sequence[float]) -> pa.Table:
    count = len(ordered)
    said = pa.nulls(count, pa.string()) if offsets is None else pa.array([levels_said(levels)] * count, pa.string())
    packed = pa.nulls(count, pa.binary()) if offsets is None else pa.array([o.tobytes() for o in offsets], pa.binary())
    columns = {"segment": ordered["segment"], LEVELS: said, OFFSETS: packed, NEVER_NEGATIVE: ordered[NEVER_NEGATIVE]}
    return pa.table(columns)


def _measured(ordered: pa.Table, pool: Pool, levels: Sequence[float], recipe: Recipe) -> dict[str, Any] | None:
    """Coverage, width and loss of the quantiles, each half of the segments by those of the other."""
    blocks, half = blocks_of_horizon(recipe.horizon), pool.segments % 2 == 0
    size = pool.sizes[pool.segments]
    said = np.full((len(pool.scores), len(levels)), np.nan)
    for part in (half, ~half):
        said[part] = pool.quantiles(levels, len(blocks), ~part)[size[part], pool.blocks[part]]
    if np.isnan(said).any():
        return None
    below = pool.scores[:, None] <= said
    scale = _column(ordered, "scale")[pool.segments]
    labels = (_column(ordered, "label_absolute") / np.maximum(1, _column(ordered, "count")))[pool.segments].sum()
    deviation = pool.scores[:, None] - said
    loss = np.where(deviation < 0, (np.array(levels) - 1) * deviation, np.array(levels) * deviation)
    intervals = [
        {
            "interval": round(high - low, 9),
            "coverage": _share(inside),
            "width": float((scale * (said[:, last] - said[:, first])).sum() / labels) if labels else None,
            "by steps": [
                {"steps": _steps(*block), "coverage": _share(inside[pool.blocks == number])}
                for number, block in enumerate(blocks)
            ],
            "by rows": [
                {"rows": name, "coverage": _share(inside[size == number])} for number, name in enumerate(_size_names())
            ],
        }
        for first, low, last, high in _pairs(levels)
        for inside in [below[:, last] & ~below[:, first]]
    ]
    return {
        "levels": list(levels),
        "measured": below.mean(axis=0).tolist(),
        # twice the pinball loss as a share of the labels, as M5 and GluonTS have it
        "weighted_loss": (2 * (scale[:, None] * loss).sum(axis=0) / labels).tolist() if labels else None,
        "scores": len(pool.scores),
        "intervals": intervals,
    }


def _pairs(levels: Sequence[float]) -> Iterator[tuple[int, float, int, float]]:
    """Levels that bound an interval with as much below as above: their places and themselves."""
    for first, low in enumerate(levels):
        for last, high in enumerate(levels):
            if low < high and abs(low + high - 1) < 1e-9:
                yield first, low, last, high


def _share(inside: NDArray[np.bool_]) -> float | None:
    return float(inside.mean()) if len(inside) else None


def _steps(first: int, last: int) -> str:
    return f"{first} to {last}" if last > first else str(first)


def _size_names() -> list[str]:
    return [*(f"{low:,} to {high - 1:,}" for low, high in pairwise(SIZES)), f"{SIZES[-1]:,} and more"]


def scaled_errors(table: pa.Table, candidates: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """MASE and RMSSE of each candidate: mean over segments of its error as a share of the segment's own scale.

    Hyndman & Koehler (2006); the root of the mean square as in Makridakis, Spiliotis & Assimakopoulos, "M5 accuracy
    competition", International Journal of Forecasting 38 (2022). Segments whose labels never change have no scale.
    """
    return {
        "mase": {name: _scaled(table, f"{name}_absolute", "scale", 1.0) for name in candidates},
        "rmsse": {name: _scaled(table, f"{name}_squared", "scale_squared", 0.5) for name in candidates},
    }


def _scaled(table: pa.Table, loss: str, scale: str, power: float) -> float | None:
    count, scales = _column(table, "count"), _column(table, scale)
    losses = table[loss].cast(pa.float64()).to_numpy(zero_copy_only=False)
    known = (count > 0) & (scales > 0) & np.isfinite(losses)
    shares = (losses[known] / count[known] / scales[known]) ** power
    return float(shares.mean()) if len(shares) else None
