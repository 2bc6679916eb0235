"""Forecasts against what came: error sums of a bucket's segments and periods, found by a Spark worker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from assets.evaluation.issues import Issue, output_name
from assets.partitions import partition_key
from assets.raw.parse import KEY, PERIOD
from assets.raw.recipe import Recipe

SERVED, SHADOW = "served", "shadow"
SUMS = ("count", "missing", "label_absolute", "absolute", "squared", "signed")
# whose errors: who forecast what, whether it was really in force, and whether champion and challenger both forecast it
GROUPS = ("issue", "role", "version", "in_force", "sampled")
LINE = pa.schema(
    [("issue", pa.int64()), ("segment", pa.string()), ("period", pa.int64())]
    + [("role", pa.string()), ("version", pa.int64()), ("model", pa.string())]
    + [("in_force", pa.bool_()), ("sampled", pa.bool_())]
    + [(name, pa.int64() if name in ("count", "missing") else pa.float64()) for name in SUMS]
)


@dataclass(frozen=True)
class IssueFiles:
    """An issue, and its files of one bucket: forecasts that were served, and those made beside them."""

    issue: Issue
    served: tuple[str, ...]
    shadow: tuple[str, ...]


@dataclass(frozen=True)
class LiveTask:
    """One bucket: its feature files, and what was forecast of its segments."""

    files: tuple[str, ...]
    issues: tuple[IssueFiles, ...]


def bucket_of_file(uri: str) -> int:
    """The bucket that a file of forecasts holds, as its name says."""
    found = re.search(r"/bucket-(\d+)-[^/]*$", uri)
    assert found, f"{uri} is no file of forecasts"
    return int(found[1])


def live_bucket(task: LiveTask, recipe: Recipe, last: int) -> Iterator[dict[str, Any]]:
    """Error sums (see `LINE`) of a bucket: a line a segment and issue, and one a period and issue over all segments.

    Only periods up to `last`, the fleet's last label, count; one of them without a label of its segment is `missing`.
    """
    first = min(each.issue.origin for each in task.issues)
    actuals = _actuals(task.files, recipe, first, last)
    for each in task.issues:
        errors = _errors(_forecasts(each, recipe, actuals, last), actuals)
        yield from _summed(errors, [*GROUPS, "segment", "model"])
        yield from _summed(errors, [*GROUPS, "period"])


@dataclass(frozen=True)
class Actuals:
    """What the features know of a bucket: its segments (key and key columns), and the labels of some periods."""

    segments: pa.Table | None
    labels: pd.DataFrame


def _actuals(files: Sequence[str], recipe: Recipe, after: int, last: int) -> Actuals:
    if not files:
        return Actuals(None, pd.DataFrame({"segment": [], "period": [], "label": []}))
    rows = pa.concat_tables([_read(file, [KEY, PERIOD, recipe.label, *recipe.segment]) for file in files])
    segments = rows.group_by([KEY, *recipe.segment], use_threads=False).aggregate([])
    due = pc.and_(pc.greater(rows[PERIOD], after), pc.less_equal(rows[PERIOD], last))
    labels = rows.filter(pc.and_(due, pc.is_valid(rows[recipe.label])))
    values = labels[recipe.label].cast(pa.float64()).to_numpy()
    periods = labels[PERIOD].to_numpy().astype(np.int64)
    return Actuals(segments, pd.DataFrame({"segment": labels[KEY].to_pandas(), "period": periods, "label": values}))


def _read(uri: str, columns: list[str]) -> pa.Table:
    import pyarrow.parquet as pq

    from resources.files import filesystem

    system, path = filesystem(uri)
    return pq.ParquetFile(system.open_input_file(path)).read(columns=columns)


def _forecasts(each: IssueFiles, recipe: Recipe, actuals: Actuals, last: int) -> pd.DataFrame:
    """What an issue forecast for periods that are due: a row a segment, period and role."""
    by_role = {SERVED: each.served, SHADOW: each.shadow}
    parts = [_rows(each.issue, files, role, recipe, actuals) for role, files in by_role.items() if files]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows["period"] <= last].reset_index(drop=True)
    rows["issue"] = each.issue.version
    rows["in_force"] = (rows["period"] > each.issue.after) & (rows["period"] <= each.issue.until)
    rows["sampled"] = rows["segment"].isin(rows["segment"][rows["role"] == SHADOW].unique())
    return rows


def _rows(issue: Issue, files: Iterable[str], role: str, recipe: Recipe, actuals: Actuals) -> pd.DataFrame:
    forecast, model, version = (output_name(name, recipe) for name in ("forecast", "model", "version"))
    columns = [*recipe.segment, *recipe.time_columns, forecast, model, version]
    table = pa.concat_tables([_read(file, columns) for file in files])
    times = table[recipe.time_columns[0]].cast(pa.timestamp("us")).to_numpy().astype(np.int64)
    return pd.DataFrame({
        "segment": _keys(table.select(recipe.segment), actuals.segments),
        "period": issue.origin + 1 + np.searchsorted(issue.ahead, times),
        "role": role,
        "version": table[version].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get),
        "model": table[model].to_pandas(),
        "forecast": table[forecast].to_numpy(),
    })  # fmt: skip


def _keys(rows: pa.Table, known: pa.Table | None) -> pd.Series[Any]:
    """Each row's segment: as the features name it now, spelled anew where they know it no more."""
    try:
        named = known.cast(pa.schema([pa.field(KEY, pa.string()), *rows.schema])) if known is not None else None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        named = None
    frame = rows.to_pandas()
    if named is None:
        keys = pd.Series(np.full(len(frame), None), dtype=object)
    else:
        keys = frame.merge(named.to_pandas(), on=list(frame.columns), how="left")[KEY]
    unknown = keys.isna()
    if unknown.any():
        keys[unknown] = [partition_key(map(str, values)) for values in frame[unknown].itertuples(index=False)]
    return keys


def _errors(rows: pd.DataFrame, actuals: Actuals) -> pa.Table:
    keys = ["segment", "period"]
    label = rows[keys].merge(actuals.labels, on=keys, how="left")["label"].to_numpy(np.float64)
    error = np.nan_to_num(rows["forecast"].to_numpy() - label)
    there = ~np.isnan(label)
    sums = {
        "count": there.astype(np.int64),
        "missing": (~there).astype(np.int64),
        "label_absolute": np.abs(np.nan_to_num(label)),
        "absolute": np.abs(error),
        "squared": np.square(error),
        "signed": error,
    }
    return pa.Table.from_pandas(rows.drop(columns="forecast").assign(**sums), preserve_index=False)


def _summed(errors: pa.Table, by: list[str]) -> Iterator[dict[str, Any]]:
    grouped = errors.group_by(by, use_threads=False).aggregate([(name, "sum") for name in SUMS])
    yield from grouped.rename_columns([*by, *SUMS]).to_pylist()
