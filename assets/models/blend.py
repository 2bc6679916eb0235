"""Blends of candidates: how much of a segment's forecast its own model, the fleet-wide one and the baseline make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.models.error_sums import Asked, discordant_pairs, row_losses
from assets.models.line import BASELINE, BLEND, WEIGHTED, weight_column

Floats = NDArray[np.float64]
Weights = Mapping[str, float]  # of `WEIGHTED` candidates; the baseline has the rest
CANDIDATES = (BASELINE, *WEIGHTED)
STEPS = 5
ALL_BASELINE: Weights = {}


@cache
def weight_grid() -> Floats:
    """Every blend that is tried (points, `CANDIDATES`): shares in fifths that sum to 1, single candidates first."""
    points = [point for point in product(range(STEPS + 1), repeat=len(CANDIDATES)) if sum(point) == STEPS]
    points.sort(key=lambda point: (STEPS - max(point), [-share for share in point]))
    return np.array(points, dtype=np.float64) / STEPS


@cache
def alone(candidate: str) -> int:
    """The point of the grid at which a candidate has all the weight."""
    return int(np.flatnonzero(weight_grid()[:, CANDIDATES.index(candidate)] == 1)[0])


def blend_losses(labels: Floats, forecasts: Mapping[str, Floats], loss: str, asked: Asked) -> bytes:
    """The loss (see `error_sums.SUMS`) of each point of the grid over some rows, as float64; NaN where it cannot be.

    `forecasts` has an array for the baseline, and one for each candidate that there is; what it lacks of a row is the
    baseline's.
    """
    naive = forecasts[BASELINE]
    parts = [or_baseline(forecasts[name], naive) if name in forecasts else np.zeros(len(labels)) for name in CANDIDATES]
    absent = np.array([name not in forecasts for name in CANDIDATES])
    grid = weight_grid()
    blended = grid @ np.vstack(parts)
    if loss == "discordant":
        losses = np.array([_or_nan(discordant_pairs(labels, each)) for each in blended])
    else:
        losses = row_losses(labels, blended, loss, asked).sum(axis=1)
    losses[(grid[:, absent] > 0).any(axis=1)] = np.nan
    return losses.tobytes()


def unpacked_losses(column: pa.ChunkedArray) -> Floats:
    """What `blend_losses` gave for each of some segments (segments, points); NaN where it was not asked."""
    found = np.full((len(column), len(weight_grid())), np.nan)
    for place, packed in enumerate(column.to_pylist()):
        if packed is not None:
            found[place] = np.frombuffer(packed)
    return found


def or_baseline(predicted: Floats | None, naive: Floats) -> Floats:
    """What is forecast: a model's finite predictions, and the baseline wherever there is none."""
    return naive if predicted is None else np.where(np.isfinite(predicted), predicted, naive)


def blended(weights: Weights, parts: Mapping[str, Floats], naive: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The forecast of each row, and in which of them a model has a part: where none has, it is the baseline's alone.

    `parts` are predictions by candidate; where one has none, or none that is finite, the baseline has its share.
    """
    total, rest = np.zeros(len(naive)), rest_of(weights, parts, len(naive))
    for name, predicted in parts.items():
        if weights.get(name, 0.0) > 0:
            total += np.where(np.isfinite(predicted), weights[name] * predicted, 0.0)
    return np.where(rest > 0, total + rest * naive, total), rest < 1


def rest_of(weights: Weights, parts: Mapping[str, Floats], rows: int) -> Floats:
    """Each row's share that no model's prediction has, and that is the baseline's."""
    rest = np.ones(rows)
    for name, predicted in parts.items():
        rest -= np.where(np.isfinite(predicted), weights.get(name, 0.0), 0.0)
    return np.where(rest < 1e-9, 0.0, rest)  # fifths do not sum to 1 exactly


def serves(weights: Weights) -> str:
    """Who serves by some weights: one candidate, or `blend`."""
    used = [name for name, weight in weights.items() if weight > 0]
    if not used:
        return BASELINE
    return used[0] if len(used) == 1 and weights[used[0]] >= 1 else BLEND


def shares_of(weights: Weights) -> dict[str, float]:
    """Weights of all candidates that have one, the baseline's with them."""
    rest = round(1.0 - sum(weights.values()), 9)
    return {**{name: round(weight, 9) for name, weight in weights.items()}, **({BASELINE: rest} if rest > 0 else {})}


def weights_of(row: Mapping[str, Any]) -> Weights:
    """The weights in a row of a listing; one of an older version of the code names a single candidate only."""
    weights = {name: row.get(weight_column(name)) for name in WEIGHTED}
    if any(weight is not None for weight in weights.values()):
        return {name: weight for name, weight in weights.items() if weight}
    return {row["chosen"]: 1.0} if row["chosen"] in WEIGHTED else ALL_BASELINE


def served_by(weights: Weights, rows: int) -> dict[str, list[Any]]:
    """Columns of a listing in which so many segments are served by the same weights."""
    columns: dict[str, list[Any]] = {weight_column(name): [weights.get(name, 0.0)] * rows for name in WEIGHTED}
    return {"chosen": [serves(weights)] * rows, **columns}


def with_weight(rows: pa.Table, candidate: str) -> pa.Table:
    """Those rows of a listing in which a candidate has a part."""
    column = weight_column(candidate)
    alone = pc.and_(pc.is_null(rows[column]), pc.equal(rows["chosen"], candidate))
    return rows.filter(pc.fill_null(pc.or_(pc.fill_null(pc.greater(rows[column], 0), False), alone), False))


def weight_columns(points: Sequence[int] | NDArray[np.int64]) -> dict[str, pa.Array]:
    """Columns of a listing for some points of the grid: who serves, and each weight."""
    grid = weight_grid()
    names = pa.array([serves(dict(zip(CANDIDATES[1:], point[1:], strict=True))) for point in grid], pa.string())
    taken = pa.array(points, pa.int64())
    return {
        "chosen": names.take(taken),
        **{weight_column(name): pa.array(grid[:, place + 1]).take(taken) for place, name in enumerate(WEIGHTED)},
    }


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
