"""What each candidate is worth on the holdout: the segments it wins, and what would be served without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.models.blend import CANDIDATES, alone, unpacked_losses
from assets.models.choice import chosen_points
from assets.models.error_sums import LOSSES, SCALES, metric_of
from assets.models.line import BASELINE, FOLD_BLENDS, SEGMENT_MODEL
from assets.models.store import MODELS, TRAINING, Training
from resources.lake import Lake

# of each segment, the loss of every blend on the holdout (see `blend_losses`)
HELD_BLENDS = "held_blends"
HELD = pa.schema([(HELD_BLENDS, pa.binary())])
# names under which the evaluation shows them
SHOWN = {SEGMENT_MODEL: "challenger"}


def worth_of_candidates(lake: Lake, training: Training, sums: pa.Table) -> dict[str, dict[str, float | None]] | None:
    """Shares of segments that each candidate `wins`, and the metric of what is served `without` it.

    Who would serve without a candidate is chosen on the fold, as who serves is; the holdout just judges. `sums` has
    `HELD` and the scales of errors, a row a segment. None of a training of some segments only.
    """
    if not training.covers_all:
        return None
    columns = ["segment", "status", FOLD_BLENDS]
    lines = lake.table(MODELS).arrow(columns=columns, where=[(TRAINING, "=", training.id)]).sort_by("segment")
    held = sums.filter(
        pc.and_(sums[HELD_BLENDS].is_valid(), pc.is_in(sums["segment"], lines["segment"].combine_chunks()))
    )
    held = held.sort_by("segment")
    losses, recipe = unpacked_losses(held[HELD_BLENDS]), training.recipe
    places = pc.index_in(held["segment"], lines["segment"].combine_chunks()).to_numpy()
    judged = np.isfinite(losses[:, alone(BASELINE)])
    by_candidate = {name: losses[:, alone(name)] for name in CANDIDATES}
    there = {name: own for name, own in by_candidate.items() if np.isfinite(own[judged]).any()}
    wins = np.argmin(np.column_stack([np.where(np.isfinite(own), own, np.inf) for own in there.values()]), axis=1)
    counts = np.bincount(wins[judged], minlength=len(there))
    without = {}
    for name in there:
        if name != BASELINE:
            points = chosen_points(lines, recipe.blend, recipe.horizons_held_out, without=name)[places]
            without[_shown(name)] = _metric(losses[np.arange(len(points)), points], held, recipe.metric)
    return {
        "wins": {_shown(name): float(count / max(1, counts.sum())) for name, count in zip(there, counts, strict=True)},
        "without": without,
    }


def _metric(losses: Any, held: pa.Table, metric: str) -> float | None:
    known = np.isfinite(losses)
    scales = {name: held[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in SCALES}
    sums = {name: float(np.nansum(values[known])) for name, values in scales.items()}
    return metric_of(metric, {**sums, f"x_{LOSSES[metric]}": float(losses[known].sum())}, "x")


def _shown(name: str) -> str:
    return SHOWN.get(name, name)
