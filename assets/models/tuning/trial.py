"""What a worker does for a search: fits some trials on the folds of some segments, and gives what each lost there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from assets.models.bucket import SegmentRows, categorical_positions, read_bucket
from assets.models.error_sums import LOSSES, Asked, error_sums
from assets.models.fit import fit, predict
from assets.models.isolation import Lost, isolated
from assets.models.segment import why_untrainable
from assets.raw.recipe import Recipe

FOLDS = 2
CANDIDATES = pa.schema(
    [
        ("segment", pa.string()),
        ("bucket", pa.int32()),
        ("rows", pa.int64()),
        ("scale", pa.float64()),
        ("negative", pa.bool_()),
        ("folds", pa.int32()),
    ]
)
# `losses` has a number for each of the rounds to stop at
LOST = pa.schema(
    [
        ("trial", pa.int32()),
        ("segment", pa.string()),
        ("losses", pa.list_(pa.float64())),
        ("fits", pa.int32()),
    ]
)


@dataclass(frozen=True)
class SearchTask:
    """Some segments of a bucket (all by default), and its feature files."""

    bucket: int
    files: tuple[str, ...]
    segments: frozenset[str] | None = None


@dataclass(frozen=True)
class SearchPlan:
    """What all tasks share. No row after `through`, the last period before the holdout, is looked at."""

    recipe: Recipe
    through: int
    time_limit: float


def described(task: SearchTask, plan: SearchPlan) -> Iterator[dict[str, Any]]:
    """Segments that have a fold to try something on (see `CANDIDATES`): labelled rows, and their mean size."""
    for rows in _before_holdout(task, plan):
        labels = rows.labels[~np.isnan(rows.labels)]
        folds = len(_usable_folds(rows, plan))
        if folds and np.isfinite(labels).all():
            scale, negative = float(np.abs(labels).mean()), bool((labels < 0).any())
            yield {"segment": rows.key, "bucket": task.bucket, "rows": len(labels), "scale": scale,
                   "negative": negative, "folds": folds}  # fmt: skip


def tried(
    task: SearchTask, plan: SearchPlan, trials: Sequence[tuple[int, Recipe]], stops: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """What each trial (its number, and the recipe that it fits) lost on the folds of each segment (see `LOST`)."""
    segments = list(_before_holdout(task, plan))
    work = list(product(range(len(segments)), range(len(trials))))
    losses_of = partial(_losses_of, segments, plan, trials, stops, work)
    import lightgbm  # noqa: F401  # here, for all children of this worker

    for place, found in isolated(losses_of, range(len(work)), time_limit=plan.time_limit, retries=0):
        rows, (number, _) = segments[work[place][0]], trials[work[place][1]]
        fits = len(_usable_folds(rows, plan))
        losses = [float("nan")] * len(stops) if isinstance(found, Lost) else found
        yield {"trial": number, "segment": rows.key, "losses": losses, "fits": fits}


def _losses_of(
    segments: Sequence[SegmentRows],
    plan: SearchPlan,
    trials: Sequence[tuple[int, Recipe]],
    stops: Sequence[int],
    work: Sequence[tuple[int, int]],
    place: int,
) -> list[float]:
    rows, recipe = segments[work[place][0]], trials[work[place][1]][1]
    folds = _usable_folds(rows, plan)
    try:
        return np.sum([_fold_losses(rows, recipe, after, end, stops) for after, end in folds], axis=0).tolist()
    except Exception:  # what cannot be fitted is no better than the worst
        return [float("nan")] * len(stops)


def _fold_losses(rows: SegmentRows, recipe: Recipe, after: int, end: int, stops: Sequence[int]) -> list[float]:
    """The loss on a fold of a model that was fitted on the rows before it, for each number of rounds."""
    booster = fit(*rows.through(after), recipe.model, categorical_positions(recipe))
    inside, asked, loss = rows.between(after, end), Asked.of(recipe.model), LOSSES[recipe.metric]
    x, labels, losses = rows.x[inside], rows.labels[inside], []
    for rounds in stops:
        sums = error_sums(labels, predict(booster, x, recipe.model, rounds), "own", asked)
        losses.append(float(sums[f"own_{loss}"] or 0.0))
    return losses


def _before_holdout(task: SearchTask, plan: SearchPlan) -> Iterator[SegmentRows]:
    for rows in read_bucket(task.files, plan.recipe).segments():
        if task.segments is None or rows.key in task.segments:
            known = rows.periods <= plan.through
            yield SegmentRows(rows.key, rows.periods[known], rows.labels[known], rows.x[known], 0)


def _usable_folds(rows: SegmentRows, plan: SearchPlan) -> list[tuple[int, int]]:
    """The last folds, each a holdout long, that a model can be fitted before, and that have a label."""
    length = plan.recipe.holdout
    folds = [(plan.through - length * (n + 1), plan.through - length * n) for n in range(FOLDS)]
    return [
        (after, end)
        for after, end in folds
        if rows.between(after, end).any() and not why_untrainable(rows, rows.through(after)[1], plan.recipe)
    ]
