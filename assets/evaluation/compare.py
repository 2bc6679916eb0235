"""Candidates on the same holdout rows: challenger, served, fleet-wide, incumbent, baseline, judged by Spark workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assets.evaluation.calibration import calibration_sums
from assets.evaluation.conformal import SCALED, SCORES, segment_scores
from assets.evaluation.origins import BLOCKS, block_losses
from assets.evaluation.worth import HELD, HELD_BLENDS
from assets.models.baseline import baseline_forecasts, origins_of
from assets.models.blend import blend_losses, or_baseline
from assets.models.bucket import Bucket, SegmentRows, read_bucket
from assets.models.error_sums import LOSSES, SCALES, SUMS, Asked, error_sums, label_scales
from assets.models.fleet_model import JUDGED as JUDGED_FIT
from assets.models.fleet_model import identity_columns
from assets.models.line import BASELINE, FLEET_MODEL, SEGMENT_MODEL
from assets.models.predictions import Candidate, Predictions, Targets, candidate_predictions
from assets.models.segment import CutOffs
from assets.raw.recipe import Recipe

Floats = NDArray[np.float64]
CALIBRATION = "calibration"  # of what is served, of labels 0 and 1: see `calibration_sums`
CANDIDATES = ("challenger", "served", "fleet", "incumbent", "baseline", "median")
JUDGED = pa.schema(
    [
        ("segment", pa.string()),
        ("count", pa.int64()),
        *[(name, pa.float64()) for name in SCALES[1:]],
        *[(f"{candidate}_{name}", pa.float64()) for candidate in CANDIDATES for name in SUMS],
        *SCALED,
    ]
)
COMPARED = pa.schema([*JUDGED, *BLOCKS, *SCORES, *HELD, (CALIBRATION, pa.binary())])


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
    scores: int,
) -> Iterator[dict[str, Any]]:
    """Error sums (see `COMPARED`) of every candidate over each segment's labelled holdout rows.

    The holdout is what lies after `cut_offs.holdout`: the same rows for all. Models are judged by their twins, which
    never saw a row of it. `otherwise` is the baseline of a segment nothing was known of. Without a model of its own the
    challenger is the baseline. Challenger (as it would serve) and incumbent are also compared, block by block, on the
    rows that are clean for the incumbent. `scores`: so many deviations a block of the horizon are given back.
    """
    bucket = read_bucket(task.files, recipe, identity_columns(recipe))
    segments = list(bucket.segments())
    insides = [rows.between(cut_offs.holdout, cut_offs.last) for rows in segments]
    targets = {rows.key: rows.periods[inside] for rows, inside in zip(segments, insides, strict=True)}
    new = candidate_predictions(challenger, bucket, task.bucket, recipe, targets, JUDGED_FIT, only_serving=False)
    old = _twins(incumbent, bucket, task.bucket, recipe, targets)
    has_fleet = any(group.fleet_file for group in challenger.groups)
    for rows, inside in zip(segments, insides, strict=True):
        naive = _baselines(rows, targets[rows.key], recipe, cut_offs, otherwise)
        own, fleet = (or_baseline(new.parts[rows.key].get(m), naive[BASELINE]) for m in (SEGMENT_MODEL, FLEET_MODEL))
        served, _ = new.served(rows.key, naive)
        compared: dict[str, Any] = {}
        forecasts = {"challenger": own, "served": served, **naive}
        if has_fleet:
            forecasts["fleet"] = fleet
        if incumbent is not None and old is not None:
            theirs, _ = old.served(rows.key, naive)
            forecasts |= {"incumbent": theirs} if incumbent.whole else {}
            clean, periods = targets[rows.key] > incumbent.after, targets[rows.key]
            labels = rows.labels[inside]
            compared = block_losses(periods[clean], labels[clean], served[clean], theirs[clean], recipe)
        asked = Asked.of(recipe.model)
        if asked.binary:
            compared[CALIBRATION] = calibration_sums(rows.labels[inside], served)
        if inside.any():
            said = {SEGMENT_MODEL: own, **naive, **({FLEET_MODEL: fleet} if has_fleet else {})}
            compared[HELD_BLENDS] = blend_losses(rows.labels[inside], said, LOSSES[recipe.metric], asked)
        compared |= segment_scores(rows, inside, served, recipe, cut_offs, scores)
        yield _sums(rows.key, rows.labels[inside], forecasts, asked) | compared


def _twins(
    incumbent: Against | None, bucket: Bucket, number: int, recipe: Recipe, targets: Targets
) -> Predictions | None:
    if incumbent is None:
        return None
    return candidate_predictions(incumbent.candidate, bucket, number, recipe, targets, JUDGED_FIT, only_serving=True)


def _baselines(
    rows: SegmentRows, targets: NDArray[np.int64], recipe: Recipe, cut_offs: CutOffs, otherwise: float
) -> dict[str, Floats]:
    history = rows.periods <= cut_offs.last
    origins = origins_of(targets, cut_offs.holdout, recipe.horizon)
    return baseline_forecasts(recipe, rows.periods[history], rows.labels[history], targets, origins, otherwise)


def _sums(key: str, labels: Floats, forecasts: Mapping[str, Floats], asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = {"segment": key, **label_scales(labels, asked)}
    for candidate, forecast in forecasts.items():
        found |= error_sums(labels, forecast, candidate, asked)
    return found
