"""Candidates on the same holdout rows: challenger, served, fleet-wide, incumbent, baseline, judged by Spark workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assets.evaluation.origins import BLOCKS, block_losses
from assets.models.baseline import baseline_forecast, origins_of
from assets.models.bucket import Bucket, SegmentRows, read_bucket
from assets.models.error_sums import SCALES, SUMS, Asked, error_sums, label_scales
from assets.models.fleet_model import JUDGED as JUDGED_FIT
from assets.models.fleet_model import identity_columns
from assets.models.line import FLEET_MODEL, SEGMENT_MODEL
from assets.models.predictions import Candidate, Targets, candidate_predictions
from assets.models.segment import CutOffs
from assets.models.store import TRAINING
from assets.raw.recipe import Recipe

Floats = NDArray[np.float64]
CANDIDATES = ("challenger", "served", "fleet", "incumbent", "baseline")
JUDGED = pa.schema(
    [
        ("segment", pa.string()),
        ("count", pa.int64()),
        *[(name, pa.float64()) for name in SCALES[1:]],
        *[(f"{candidate}_{name}", pa.float64()) for candidate in CANDIDATES for name in SUMS],
    ]
)
COMPARED = pa.schema([*JUDGED, *BLOCKS])


@dataclass(frozen=True)
class Against:
    """The incumbent, whether it may be judged on the whole holdout, and after which period rows are clean for it."""

    candidate: Candidate
    whole: bool
    after: int


@dataclass(frozen=True)
class JudgeTask:
    """One bucket to judge, and its feature files."""

    bucket: int
    files: tuple[str, ...]


def judge_bucket(
    task: JudgeTask,
    recipe: Recipe,
    cut_offs: CutOffs,
    otherwise: float,
    challenger: Candidate,
    incumbent: Against | None,
) -> Iterator[dict[str, Any]]:
    """Error sums (see `COMPARED`) of every candidate over each segment's labelled holdout rows.

    The holdout is what lies after `cut_offs.holdout`: the same rows for all. Models are judged by their twins, which
    never saw a row of it. `otherwise` is the baseline of a segment nothing was known of. Without a model of its own the
    challenger is the baseline. Challenger (as it would serve) and incumbent are also compared, block by block, on the
    rows that are clean for the incumbent.
    """
    bucket = read_bucket(task.files, recipe, identity_columns(recipe))
    segments = list(bucket.segments())
    insides = [rows.between(cut_offs.holdout, cut_offs.last) for rows in segments]
    targets = {rows.key: rows.periods[inside] for rows, inside in zip(segments, insides, strict=True)}
    new = _twins(challenger, bucket, task.bucket, recipe, targets, only_chosen=False)
    old = _twins(incumbent.candidate, bucket, task.bucket, recipe, targets, only_chosen=True) if incumbent else {}
    serves = _who_serves(challenger, task.bucket)
    has_fleet = any(group.fleet_file for group in challenger.groups)
    for rows, inside in zip(segments, insides, strict=True):
        naive = _baseline(rows, targets[rows.key], recipe, cut_offs, otherwise)
        own, fleet = (or_baseline(new.get((rows.key, model)), naive) for model in (SEGMENT_MODEL, FLEET_MODEL))
        served = {SEGMENT_MODEL: own, FLEET_MODEL: fleet}.get(serves.get(rows.key, ""), naive)
        compared: dict[str, Any] = {}
        forecasts = {"challenger": own, "served": served, "baseline": naive}
        if has_fleet:
            forecasts["fleet"] = fleet
        if incumbent is not None:
            found = [old[rows.key, model] for model in (SEGMENT_MODEL, FLEET_MODEL) if (rows.key, model) in old]
            theirs = or_baseline(found[0] if found else None, naive)
            forecasts |= {"incumbent": theirs} if incumbent.whole else {}
            clean, periods = targets[rows.key] > incumbent.after, targets[rows.key]
            labels = rows.labels[inside]
            compared = block_losses(periods[clean], labels[clean], served[clean], theirs[clean], recipe)
        yield _sums(rows.key, rows.labels[inside], forecasts, Asked.of(recipe.model)) | compared


def or_baseline(predicted: Floats | None, naive: Floats) -> Floats:
    """What is forecast: a model's finite predictions, and the baseline wherever there is none."""
    return naive if predicted is None else np.where(np.isfinite(predicted), predicted, naive)


def _twins(
    candidate: Candidate, bucket: Bucket, number: int, recipe: Recipe, targets: Targets, *, only_chosen: bool
) -> dict[tuple[str, str], Floats]:
    found = candidate_predictions(candidate, bucket, number, recipe, targets, JUDGED_FIT, only_chosen=only_chosen)
    return {(key, model): predicted for key, model, predicted in found}


def _who_serves(candidate: Candidate, bucket: int) -> dict[str, str]:
    """What was chosen for each of a bucket's segments whose training can be used."""
    places, usable = candidate.places(bucket, []), {group.training for group in candidate.groups}
    rows = zip(places["segment"].to_pylist(), places["chosen"].to_pylist(), places[TRAINING].to_pylist(), strict=True)
    return {key: chosen for key, chosen, training in rows if training in usable}


def _baseline(
    rows: SegmentRows, targets: NDArray[np.int64], recipe: Recipe, cut_offs: CutOffs, otherwise: float
) -> Floats:
    history = rows.periods <= cut_offs.last
    origins = origins_of(targets, cut_offs.holdout, recipe.horizon)
    return baseline_forecast(recipe, rows.periods[history], rows.labels[history], targets, origins, otherwise)


def _sums(key: str, labels: Floats, forecasts: Mapping[str, Floats], asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = {"segment": key, **label_scales(labels, asked)}
    for candidate, forecast in forecasts.items():
        found |= error_sums(labels, forecast, candidate, asked)
    return found
