"""What becomes of the rows of a part's buckets: features, a row a segment, and refused rows; all written by workers."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.features.build import features_of_bucket, write_features
from assets.features.contract import BUCKET, Counts
from assets.features.ordered import Ordered, ordered
from assets.features.placed import Placed, Placing
from assets.features.resolved import is_usable, with_places, without_duplicates
from assets.raw.parse import KEY, NOTED, PERIOD, REASONS, SOURCE
from assets.raw.recipe import Recipe
from assets.raw.source import ARRIVED, FILE, ROW
from resources.exchange import Exchange
from resources.files import write_parquet
from resources.spread import Say, spread

if TYPE_CHECKING:
    from resources.spark import Spark

SETTLED = pa.schema([("told", pa.string()), ("rows", pa.int64())])
VALUES = pa.schema([("column", pa.string()), ("value", pa.string()), ("rows", pa.int64())])


@dataclass(frozen=True)
class Folders:
    """Where workers write: features and, unless they are not asked for, segments and quarantine."""

    features: str
    segments: str | None = None
    quarantine: str | None = None


class Settled(NamedTuple):
    """How many rows and segments there are, and the files written: relative to their folders, or to the exchange's."""

    counts: Counts
    segments: int
    files: dict[str, list[str]]


def quarantine_schema(source: pa.Schema) -> pa.Schema:
    """The columns of the quarantine, of rows that came with these columns."""
    own = [("__reason", pa.string()), (REASONS, pa.list_(pa.string())), (KEY, pa.string())]
    place = [(FILE, pa.string()), (ROW, pa.int64()), (ARRIVED, pa.int32())]
    return pa.schema([*(pa.field(*each) for each in [*own, *place]), *source])


def segments_schema(source: pa.Schema, recipe: Recipe) -> pa.Schema:
    """The columns of the list of segments, of rows that came with these columns."""
    counts = [("__rows", pa.int64()), ("__labelled", pa.int64()), ("__label", pa.float64())]
    periods = [("__first", pa.int32()), ("__last", pa.int32()), ("__open", pa.bool_())]
    own = [pa.field(name, source.field(name).type) for name in recipe.segment]
    named = [pa.field(BUCKET, pa.int32()), pa.field(KEY, pa.string())]
    return pa.schema([*named, *own, *(pa.field(*each) for each in [*counts, *periods])])


def settle(
    spark: Spark,
    placed: Placed,
    placing: Placing,
    recipe: Recipe,
    given: Exchange,
    folders: Folders,
    say: Say | None = None,
) -> Settled:
    """Builds and writes what becomes of rows that were handed over.

    Each attempt of a task writes files of its own: only those named here are whole.
    """
    work = partial(
        _settled_part,
        placed=placed,
        placing=placing,
        recipe_json=recipe.model_dump_json(),
        given=given,
        folders=folders,
    )
    parts, total = range(given.parts), placing.profile.rows
    lines = spread(spark, parts, work, SETTLED, short=True, what="built features of", total=total, unit="rows", say=say)
    by_reason, by_rule = Counter[str](), Counter[str]()
    files: dict[str, list[str]] = {name: [] for name in ("features", "segments", "quarantine", "values")}
    segments = 0
    for line in map(json.loads, lines["told"].to_pylist()):
        by_reason.update(line["by_reason"])
        by_rule.update(line["by_rule"])
        segments += line["segments"]
        for name, written in line["files"].items():
            files[name] += written
    return Settled(Counts(dict(by_reason), dict(by_rule)), segments, {name: sorted(f) for name, f in files.items()})


def _settled_part(
    part: int, placed: Placed, placing: Placing, recipe_json: str, given: Exchange, folders: Folders
) -> Iterator[dict[str, Any]]:
    good, told = given.rows(placed.good, part), given.rows(placed.told, part)
    if good is None and told is None:
        return
    recipe, found = Recipe.model_validate_json(recipe_json), decided(good, told, placing)
    rows = ordered(found.valid, recipe.segment)
    text = [column for column in placing.inputs if recipe.kinds[column] == "text"]
    build, last = features_of_bucket(recipe, placing.profile), placing.profile.last_period
    files: dict[str, list[str]] = {"quarantine": _written(quarantined(found.refused), folders.quarantine)}
    if found.valid.num_rows:
        files["segments"] = _written(segments_in(rows, recipe, last), folders.segments)
        files["values"] = _written(values_of(found.valid, text), given.folder)
        built = (write_features(build(bucket), recipe, folders.features) for bucket in rows.buckets())
        files["features"] = [file for written in built for file in written]
    told_of = {**found.counts._asdict(), "segments": rows.segments.num_rows, "files": files}
    yield {"told": json.dumps(told_of), "rows": sum(found.counts.by_reason.values())}


def _written(rows: pa.Table, folder: str | None) -> list[str]:
    """Writes rows, if there are any and a folder for them; gives the file's name in the folder."""
    if folder is None or not rows.num_rows:
        return []
    name = f"part-{uuid.uuid4().hex}.parquet"
    write_parquet(rows, f"{folder}/{name}")
    return [name]


class Decided(NamedTuple):
    """Rows that are valid (what features look at), rows that are refused (all that is known of them), and counts."""

    valid: pa.Table
    refused: pa.Table
    counts: Counts


def decided(good: pa.Table | None, told: pa.Table | None, placing: Placing) -> Decided:
    """Which of the rows of a part (of one kind or the other, or both) are valid."""
    if told is None:
        assert good is not None, "a part has rows"
        return Decided(good, good.slice(0, 0), Counts({"": good.num_rows}, {}))
    told = _looked_at_together(told, placing)
    usable = is_usable(told)
    refused, noted = told.filter(pa.array(~usable)), told.filter(pa.array(usable)).select(placing.columns)
    valid = noted if good is None else pa.concat_tables([good, noted])
    by_reason = _counted(pc.list_element(refused[REASONS], 0)) | ({"": valid.num_rows} if valid.num_rows else {})
    by_rule = Counter(_counted(pc.list_flatten(told[REASONS]))) + Counter(_counted(pc.list_flatten(told[NOTED])))
    return Decided(valid, refused, Counts(by_reason, dict(by_rule)))


def _looked_at_together(told: pa.Table, placing: Placing) -> pa.Table:
    if placing.profile.timeline is None:
        return with_places(told)
    return without_duplicates(told) if placing.profile.repeated else told


def _counted(names: pa.ChunkedArray) -> dict[str, int]:
    return {each["values"]: each["counts"] for each in pc.value_counts(names).to_pylist()}


def quarantined(refused: pa.Table) -> pa.Table:
    """Refused rows as they came, with `__reason` (the first), `__reasons`, `__segment`, `__file`, `__row` and
    `__arrived`, the snapshot that they came with.
    """
    if not refused.num_rows:
        return refused
    source = refused[SOURCE].combine_chunks()
    return pa.table({
        "__reason": pc.list_element(refused[REASONS], 0),
        **{name: refused[name] for name in (REASONS, KEY, FILE, ROW, ARRIVED)},
        **dict(zip([field.name for field in source.type], source.flatten(), strict=True)),
    })  # fmt: skip


def segments_in(found: Ordered, recipe: Recipe, last: int) -> pa.Table:
    """A row a segment: its bucket and key, rows, known labels and their mean, first and last period, whether open."""
    label, starts = found.rows[recipe.label].combine_chunks(), found.starts
    known = label.is_valid().to_numpy(zero_copy_only=False)
    values = label.fill_null(0.0).to_numpy(zero_copy_only=False)
    labelled = np.add.reduceat(known.astype(np.int64), starts)
    ends, period = np.append(starts[1:], len(values)), found.rows[PERIOD].to_numpy()
    return pa.table({
        **dict(zip(found.segments.column_names, found.segments.columns, strict=True)),
        "__rows": pa.array(ends - starts, pa.int64()),
        "__labelled": pa.array(labelled, pa.int64()),
        "__label": pa.array(np.add.reduceat(values, starts) / np.maximum(labelled, 1), mask=labelled == 0),
        "__first": pa.array(period[starts], pa.int32()),
        "__last": pa.array(period[ends - 1], pa.int32()),
        "__open": pa.array(period[ends - 1] > last - recipe.closed_after),
    })  # fmt: skip


def values_of(rows: pa.Table, columns: list[str]) -> pa.Table:
    """How many rows have each text: `column`, `value`, `rows`."""
    counted = [(name, pc.value_counts(rows[name].drop_null())) for name in columns]
    parts = [
        pa.table({"column": [name] * len(each), "value": each.field("values"), "rows": each.field("counts")})
        for name, each in counted
        if len(each)
    ]
    return pa.concat_tables([VALUES.empty_table(), *parts])
