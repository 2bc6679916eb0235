"""What an evaluation says of itself: errors and rules by candidate, what was held out, and every cut-off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.evaluation.compare import CANDIDATES
from assets.evaluation.conformal import scaled_errors
from assets.evaluation.incumbent import Incumbent
from assets.features.publish import ABSURD, FeatureSet
from assets.models.error_sums import LOSSES, METRICS, metric_of, totals, undefined
from assets.models.line import FAILED
from assets.models.store import UNKNOWN, Training

Floats = NDArray[np.float64]


def evaluation_record(
    digest: str,
    features: FeatureSet,
    training: Training,
    against: Incumbent,
    table: pa.Table,
) -> dict[str, Any]:
    """What an evaluation's commit says of it; `table` has a row a segment."""
    recipe, profile, incumbent = training.recipe, features.profile, against.on_holdout
    held_out = profile.timeline.last(recipe.holdout) if profile.timeline else None
    summed = totals(table)
    off = absurd(table)
    sensible = totals(table.filter(pc.invert(off)))
    errors = {candidate: metric_of(recipe.metric, summed, candidate) for candidate in CANDIDATES}
    return {
        "digest": digest,
        "training": training.id,
        "metric": recipe.metric,
        "errors": errors,
        "bias": {c: metric_of("bias", sensible, c) for c in errors},
        "absurd": pc.sum(off).as_py() or 0,
        "metrics": {name: {c: metric_of(name, summed, c) for c in errors} for name in METRICS}
        | scaled_errors(table, CANDIDATES),
        "rows": summed["count"],
        "failed": pc.sum(pc.equal(table["status"], FAILED)).as_py() or 0,
        "segments": len(table),
        "undefined": pc.sum(undefined(table)).as_py() or 0,
        "worse_than_baseline": _worse_than_baseline(recipe.metric, table),
        "compared": _comparable_sums(recipe.metric, summed, bool(incumbent)),
        "incumbent_version": incumbent.version if incumbent else None,
        "incumbent_left_out": against.why_not,
        "holdout": {
            "start": held_out[0].isoformat() if held_out is not None else None,
            "end": held_out[-1].isoformat() if held_out is not None else None,
        },
        "last_label": profile.timeline.last_label.isoformat() if profile.timeline else None,
        "holdout_from": profile.last_period - recipe.holdout,
        "trained_through": training.record["trained_through"],
        "judged_through": _latest(table, "judged_through"),
        "selected_through": _latest(table, "selected_through"),
        "incumbent_judged_through": _latest(against.champion.listing, "judged_through") if against.champion else None,
        "incumbent_selected_through": against.selected_through,
        "cut_offs": _cut_offs(table, against),
        "features_version": features.version,
        "features_digest": features.digest,
        "raw_digest": features.record["raw_digest"],
        "recipe_digest": recipe.digest,
        "configuration_digest": training.record.get("configuration_digest", UNKNOWN),
    }


def absurd(table: pa.Table) -> pa.Array:
    """Segments whose mean label on the holdout is more than `ABSURD` times that on the fold before it.

    A slip of the hand, or another unit: next to one such label the sum of all other segments' is nothing, and would not
    tell whether their forecasts are too low.
    """
    now, before = (
        np.divide(labels, rows, out=np.zeros(len(labels)), where=rows > 0)
        for labels, rows in (_labels_and_rows(table, prefix) for prefix in ("", "fold_"))
    )
    return pa.array((before > 0) & (now > ABSURD * before))


def _labels_and_rows(table: pa.Table, prefix: str) -> tuple[Floats, Floats]:
    labels, rows = (
        np.nan_to_num(table[f"{prefix}{name}"].to_numpy(zero_copy_only=False).astype(np.float64))
        for name in ("label_absolute", "count")
    )
    return labels, rows


def _comparable_sums(metric: str, summed: dict[str, float | None], has_incumbent: bool) -> dict[str, float | None]:
    """Sums that rank candidates on the same rows as the metric does, and exist where the metric does not."""
    kind = LOSSES[metric]
    candidates = ["challenger", "served", "fleet", "baseline", *(["incumbent"] if has_incumbent else [])]
    return {candidate: summed[f"{candidate}_{kind}"] for candidate in candidates}


def _worse_than_baseline(metric: str, table: pa.Table) -> dict[str, int]:
    """How many of the segments with rows in the holdout would be served worse than by the baseline."""
    served, baseline = (table[f"{name}_{LOSSES[metric]}"] for name in ("served", "baseline"))
    known = pc.and_(pc.is_finite(served), pc.is_finite(baseline))
    judged = pc.and_(known, pc.greater(table["count"], 0))
    worse = pc.and_(judged, pc.greater(served, baseline))
    return {"segments": pc.sum(worse).as_py() or 0, "of": pc.sum(judged).as_py() or 0}


def _cut_offs(table: pa.Table, against: Incumbent) -> dict[str, dict[str, int | None]]:
    """Of each candidate the last period that its judged models were trained on, and that it was chosen by."""
    own = {"trained_through": _latest(table, "judged_through"), "selected_through": _latest(table, "selected_through")}
    found: dict[str, dict[str, int | None]] = {name: dict(own) for name in ("challenger", "served", "fleet")}
    found["baseline"] = {"trained_through": own["selected_through"], "selected_through": None}
    if against.champion is not None:
        trained = _latest(against.champion.listing, "judged_through")
        found["incumbent"] = {"trained_through": trained, "selected_through": against.selected_through}
    return found


def _latest(table: pa.Table, column: str) -> int | None:
    return pc.max(table[column]).as_py()
