"""Candidates on the same holdout rows: challenger, served, incumbent and baseline, judged by Spark workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assets.models.baseline import origins_of, seasonal_naive
from assets.models.bucket import Bucket, SegmentRows, read_bucket
from assets.models.error_sums import SUMS, error_sums
from assets.models.fit import predict
from assets.models.shard import SEGMENT_MODEL
from assets.models.store import ShardPart, boosters
from assets.raw.recipe import Recipe

if TYPE_CHECKING:
    from lightgbm import Booster

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CANDIDATES = ("challenger", "served", "incumbent", "baseline")
JUDGED = pa.schema(
    [
        ("segment", pa.string()),
        ("count", pa.int64()),
        ("label_absolute", pa.float64()),
        *[(f"{candidate}_{name}", pa.float64()) for candidate in CANDIDATES for name in SUMS],
    ]
)


@dataclass(frozen=True)
class ModelGroup:
    """Models of one recipe in one bucket, with the feature files that fit the recipe."""

    recipe: Recipe
    files: tuple[str, ...]
    parts: tuple[ShardPart, ...]


@dataclass(frozen=True)
class JudgeTask:
    """One bucket to judge. `chosen` and `incumbent_chosen`: segments that a model serves, not the baseline."""

    bucket: int
    files: tuple[str, ...]
    challenger: tuple[ModelGroup, ...]
    chosen: frozenset[str]
    incumbent: tuple[ModelGroup, ...] | None
    incumbent_chosen: frozenset[str]


def judge_bucket(task: JudgeTask, recipe: Recipe, last: int, otherwise: float) -> Iterator[dict[str, Any]]:
    """Error sums (see `JUDGED`) of every candidate over each segment's labelled holdout rows.

    The holdout is the fleet's last `recipe.holdout` periods, up to `last`: the same rows for all. Models are judged by
    their twins, which never saw a row of it. `otherwise` is the baseline of a segment nothing was known of.
    """
    bucket, after = read_bucket(task.files, recipe), last - recipe.holdout
    challenger = _twins(task.challenger, bucket, task.files, recipe, last)
    incumbent = _twins(task.incumbent or (), bucket, task.files, recipe, last)
    for rows in bucket.segments():
        inside = rows.between(after, last)
        labels, targets = rows.labels[inside], rows.periods[inside]
        origins = origins_of(targets, after, recipe.horizon)
        history = rows.periods <= last
        naive = seasonal_naive(rows.periods[history], rows.labels[history], targets, origins, recipe.season, otherwise)
        new, old = (or_baseline(twins.get(rows.key), naive) for twins in (challenger, incumbent))
        forecasts = {
            "challenger": new,
            "served": new if rows.key in task.chosen else naive,
            "baseline": naive,
        }
        if task.incumbent is not None:
            forecasts["incumbent"] = old if rows.key in task.incumbent_chosen else naive
        yield _sums(rows.key, labels, forecasts)


def or_baseline(predicted: Floats | None, naive: Floats) -> Floats:
    """What is forecast: a model's finite predictions, and the baseline wherever there is none."""
    return naive if predicted is None else np.where(np.isfinite(predicted), predicted, naive)


def _sums(key: str, labels: Floats, forecasts: Mapping[str, Floats]) -> dict[str, Any]:
    sums: dict[str, Any] = {
        "segment": key,
        "count": len(labels),
        "label_absolute": float(np.abs(labels).sum()),
    }
    for candidate, forecast in forecasts.items():
        sums |= error_sums(labels, forecast, candidate)
    return sums


def _twins(
    groups: tuple[ModelGroup, ...], bucket: Bucket, files: tuple[str, ...], recipe: Recipe, last: int
) -> dict[str, Floats]:
    """Predictions of the judged twins for the labelled holdout rows of the bucket, by segment."""
    wanted = {rows.key: rows for rows in bucket.segments()} if groups else {}
    after = last - recipe.holdout
    found: dict[str, Floats] = {}
    for group in groups:
        own = (
            bucket
            if group.files == files and group.recipe.shapes_like(recipe)
            else read_bucket(group.files, group.recipe)
        )
        by_key = {rows.key: rows for rows in own.segments()}
        for key, booster in boosters(group.parts, "judged"):
            if key in wanted and key in by_key:
                targets = wanted[key].periods[wanted[key].between(after, last)]
                found[key] = predictions_at(booster, by_key[key], targets, group.recipe)
    return found


def predictions_at(booster: Booster, own: SegmentRows, targets: Ints, recipe: Recipe) -> Floats:
    """A booster's prediction for each period; NaN where its recipe has no row of features for one."""
    x, there = own.at(targets)
    return np.where(there, predict(booster, x, recipe.model), np.nan)


def chosen_segments(listing: pa.Table) -> frozenset[str]:
    """The segments of a listing that their own model serves."""
    import pyarrow.compute as pc

    return frozenset(listing.filter(pc.equal(listing["chosen"], SEGMENT_MODEL))["segment"].to_pylist())
