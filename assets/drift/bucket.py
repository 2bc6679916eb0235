"""The tests of a bucket's segments, found by a Spark worker: features, label and the champion's predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assets.drift.season import Seasons
from assets.drift.windows import FEWEST_PAST, FEWEST_ROWS, MOST_PAST, NEVER_SEEN, TESTS, Plan, compared
from assets.models.baseline import baseline_forecasts
from assets.models.bucket import SegmentRows, categorical_positions, read_bucket
from assets.models.fleet_model import identity_columns
from assets.models.predictions import Candidate, candidate_predictions
from assets.raw.recipe import Recipe

Floats = NDArray[np.float64]

FORECAST = "forecast@champion"
MOST_ROWS = 20_000  # of the reference, the last ones
# states of a segment
JUDGED, NO_ROWS, FEW_ROWS, SHORT_REFERENCE = "judged", "no current rows", "too few current rows", "short reference"
PLAN = pa.schema(
    {"segment": pa.string(), "bucket": pa.int32(), "trained": pa.int64(), "start": pa.int64(), "end": pa.int64()}
)
LINE = pa.schema(
    {
        "segment": pa.string(), "state": pa.string(), "rows": pa.int64(), "reference_rows": pa.int64(),
        "statistics": pa.binary(), "effects": pa.binary(), "features": pa.list_(pa.string()),
    }
)  # fmt: skip
STORED = np.float16  # of statistics, which travel to the driver: three digits of them


@dataclass(frozen=True)
class DriftTask:
    """One bucket, its feature files, and where the plan of the fleet's windows lies."""

    bucket: int
    files: tuple[str, ...]
    plan: str


def compared_features(recipe: Recipe) -> list[str]:
    """The features that are tested beside label and forecast: those that say something of their own.

    Calendar and trend are known structure; lags and windows of the label are the label again, and of the lags of
    another column all are the same series: the shortest stands for it.
    """
    shortest = min(recipe.lags, default=0)
    return [*recipe.known_ahead, *(f"{column}@lag_{shortest}" for column in recipe.past_only if recipe.lags)]


def compared_columns(recipe: Recipe) -> list[str]:
    """What is tested of each segment, in order: the label, its features, the champion's forecasts."""
    return [recipe.label, *compared_features(recipe), FORECAST]


def drift_bucket(
    task: DriftTask, recipe: Recipe, unseen: frozenset[str], seasons: Seasons, champion: Candidate | None
) -> Iterator[dict[str, Any]]:
    """A line (see `LINE`) for each planned segment of a bucket; features that are `unseen` were not trained on."""
    plan = _plan_of(task)
    if not plan:
        return
    bucket = read_bucket(task.files, recipe, identity_columns(recipe))
    names = compared_features(recipe)
    columns = [recipe.features.index(name) for name in names]
    text = np.array([False, *(place in set(categorical_positions(recipe)) for place in columns), False])
    rows = {each.key: each for each in bucket.segments() if each.key in plan}
    targets = {key: _used(rows[key], plan[key]) for key in rows}
    forecasts = {}
    if champion is not None:
        wanted = {key: periods for key, periods in targets.items() if len(periods)}
        said = candidate_predictions(champion, bucket, task.bucket, recipe, wanted, "served", only_serving=True)
        forecasts = {key: said.served(key, _naive(rows[key], periods, recipe))[0] for key, periods in wanted.items()}
    for key, where in plan.items():
        if key not in rows:
            yield _line(key, NO_ROWS)
            continue
        x, there = rows[key].at(targets[key])
        assert there.all(), "periods of the segment's own rows"
        labels = rows[key].labels[np.searchsorted(rows[key].periods, targets[key])]
        nothing = np.full(len(labels), np.nan)
        values = np.vstack([labels, x[:, columns].T, forecasts.get(key, nothing)])
        yield _tested_line(key, values, text, targets[key], where, seasons, [name in unseen for name in names])


def _naive(rows: SegmentRows, periods: NDArray[np.int64], recipe: Recipe) -> dict[str, Floats]:
    """The baselines' forecasts of past periods, from what was known a horizon before each."""
    return baseline_forecasts(recipe, rows.periods, rows.labels, periods, periods - recipe.horizon, np.nan)


def _tested_line(
    key: str, values: Floats, text: NDArray[np.bool_], periods: Any, plan: Plan, seasons: Seasons, unseen: list[bool]
) -> dict[str, Any]:
    current = periods > plan.start
    rows, before = int(current.sum()), int((periods <= plan.trained).sum())
    if rows < FEWEST_ROWS:
        return _line(key, FEW_ROWS if rows else NO_ROWS, rows, before)
    if not before or plan.groups(periods)[1] - 2 < FEWEST_PAST:
        return _line(key, SHORT_REFERENCE, rows, before)
    found = compared(values, text, periods, plan, seasons)
    known = np.array([False, *unseen, False])
    found.statistics[known], found.effects[known] = np.nan, np.nan
    states = [NEVER_SEEN if hidden else state for hidden, state in zip(known, found.states, strict=True)]
    statistics = np.clip(found.statistics, -6e4, 6e4).astype(STORED)
    return _line(key, JUDGED, rows, before, statistics, found.effects.astype(np.float32), states)


def _line(
    key: str,
    state: str,
    rows: int = 0,
    before: int = 0,
    statistics: NDArray[Any] | None = None,
    effects: NDArray[Any] | None = None,
    states: list[str] | None = None,
) -> dict[str, Any]:
    return {
        "segment": key,
        "state": state,
        "rows": rows,
        "reference_rows": before,
        "statistics": None if statistics is None else statistics.tobytes(),
        "effects": None if effects is None else effects.tobytes(),
        "features": states,
    }


def unpacked(lines: pa.Table, tests: int) -> tuple[NDArray[Any], Floats]:
    """Statistics (segments, features x tests, windows) and effects (segments, features x tests) of judged lines."""
    statistics = np.frombuffer(b"".join(lines["statistics"].to_pylist()), dtype=STORED)
    effects = np.frombuffer(b"".join(lines["effects"].to_pylist()), dtype=np.float32)
    width = tests * len(TESTS)
    return statistics.reshape(-1, width, MOST_PAST + 1), effects.reshape(-1, width).astype(np.float64)


def _plan_of(task: DriftTask) -> dict[str, Plan]:
    import pyarrow.parquet as pq

    from resources.files import filesystem

    system, path = filesystem(task.plan)
    rows = pq.read_table(path, filesystem=system, filters=[("bucket", "=", task.bucket)])
    return {row["segment"]: Plan(row["trained"], row["start"], row["end"]) for row in rows.to_pylist()}


def _used(rows: SegmentRows, plan: Plan) -> NDArray[np.int64]:
    """Periods of a segment's labelled rows: the last ones of the reference, and those of the current window.

    A row without label has trained nothing, and is compared with nothing.
    """
    labelled = rows.periods[~np.isnan(rows.labels)]
    return np.concatenate([
        labelled[labelled <= plan.trained][-MOST_ROWS:], labelled[(labelled > plan.start) & (labelled <= plan.end)]
    ])  # fmt: skip
