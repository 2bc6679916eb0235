"""The tables inside an export: models, rows ahead, fleet-wide models, the listing, and what may be asked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.champions.lake_view import LakeView
from assets.champions.served_files import packed_fleet_model, packed_models, where_of
from assets.champions.serving import exported
from assets.champions.serving.boosters import verified
from assets.champions.serving.exported import BASELINE_COLUMN, KEY, MEDIAN_COLUMN, PERIOD
from assets.champions.serving.question import Place, Question
from assets.champions.serving.refusal import LostModelsError
from assets.models.line import BASELINE, FLEET_MODEL, MEDIAN, WEIGHTED
from assets.models.packing import model_digest, model_text
from assets.models.quantiles import LEVELS, NEVER_NEGATIVE, OFFSETS, QUANTILES, Quantiles, levels_said
from assets.models.store import TRAINING
from assets.partitions import bucket_of
from resources.lake import Lake

INDEX = "index.json"
MODELS_A_GROUP, LONGEST_NAME = 64, 40
MODEL = pa.schema([(KEY, pa.string()), ("model", pa.binary())])
FLEET_ROW = pa.schema(
    [(TRAINING, pa.string()), ("categories", pa.string()), ("model", pa.binary()), ("digest", pa.string())]
)


def write_models(
    lake: Lake, places: Sequence[Place], inside: Path, boosters: Path | None
) -> dict[str, tuple[int, str | None]]:
    """Writes the segments' own models; gives the row group and the digest of each."""
    import pyarrow.parquet as pq

    found: dict[str, tuple[int, str | None]] = {}
    lost: list[str] = []
    names: dict[str, str] = {}
    ordered = sorted(places, key=lambda place: (place.shard or "", place.segment))
    with pq.ParquetWriter(inside / exported.MODELS, MODEL, compression="none") as sink:
        for group, start in enumerate(range(0, len(ordered), MODELS_A_GROUP)):
            rows = []
            for place, packed in packed_models(lake.root, ordered[start : start + MODELS_A_GROUP], lost):
                try:
                    model = verified(packed, place.digest, where_of(place))
                except LostModelsError as error:
                    lost.append(str(error))
                    continue
                rows.append({KEY: place.segment, "model": model})
                found[place.segment] = group, model_digest(model)
                if boosters is not None:
                    names[place.segment] = _write_text(model, boosters, place.segment)
            sink.write_table(pa.Table.from_pylist(rows, MODEL))
            if lost:
                raise LostModelsError("\n".join(lost))
    if boosters is not None:
        boosters.mkdir(exist_ok=True)
        (boosters / INDEX).write_text(json.dumps(names, indent=2, ensure_ascii=False), encoding="utf-8")
    return found


def _write_text(model: bytes, boosters: Path, segment: str) -> str:
    boosters.mkdir(exist_ok=True)
    name = file_name(segment)
    (boosters / name).write_text(model_text(model), encoding="utf-8")
    return name


def file_name(segment: str) -> str:
    """A file's name for any segment: what is harmless of it, and a digest that tells it from all others."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", segment).strip("-")[:LONGEST_NAME]
    digest = hashlib.blake2b(segment.encode(), digest_size=8).hexdigest()
    return f"{readable}-{digest}.txt".lstrip("-")


def write_rows(view: LakeView, places: Sequence[Place], file: Path) -> tuple[dict[str, int], int]:
    """Writes what each segment is forecast by; gives the row group of each, and how many rows there are."""
    import pyarrow.parquet as pq

    width = max((len(inputs.features) for inputs in view.question.inputs.values()), default=0)
    names = [f"f{place}" for place in range(width)]
    schema = pa.schema(
        [
            (KEY, pa.string()),
            (PERIOD, pa.int64()),
            *((name, pa.float64()) for name in (BASELINE_COLUMN, MEDIAN_COLUMN, *names)),
        ]
    )
    by_bucket: dict[int, list[Place]] = {}
    for place in places:
        by_bucket.setdefault(bucket_of(place.segment, view.features.buckets), []).append(place)
    groups: dict[str, int] = {}
    number = count = 0
    with pq.ParquetWriter(file, schema) as sink:
        for bucket in sorted(by_bucket):
            tables = [_rows_of(view, place, schema, width) for place in by_bucket[bucket]]
            group = pa.concat_tables(tables)
            if not len(group):
                continue
            groups |= {p.segment: number for p, rows in zip(by_bucket[bucket], tables, strict=True) if len(rows)}
            count += len(group)
            sink.write_table(group, row_group_size=len(group))
            number += 1
    return groups, count


def _rows_of(view: LakeView, place: Place, schema: pa.Schema, width: int) -> pa.Table:
    key, span = place.segment, view.question.span
    if view.question.time is None:
        periods = np.array([span.last + span.horizon])
    else:
        periods = view.rows(key, None, past=False).periods
    x = np.full((len(periods), width), np.nan)
    if place.training in view.question.inputs and place.weights and view.question.time:
        own, there = view.rows(key, place.training, past=False).at(periods)
        x[there, : own.shape[1]] = own[there]
    said = view.baselines(key, periods) if len(periods) else {}
    naive, median = (said.get(name, np.full(len(periods), np.nan)) for name in (BASELINE, MEDIAN))
    keys = pa.array([key] * len(periods), pa.string())
    columns: list[Any] = [keys, periods, naive, median, *(x[:, n] for n in range(width))]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=schema)


def write_fleet_models(view: LakeView, lake: Lake, places: Sequence[Place], file: Path) -> None:
    import pyarrow.parquet as pq

    rows = []
    for training in sorted({place.training or "" for place in places if FLEET_MODEL in place.weights}):
        kept = packed_fleet_model(lake.root, view.fleet_file(training) or "")
        assert kept is not None, "the baseline answers where there is none"
        model, categories = kept
        rows.append({TRAINING: training, "categories": categories, "model": model, "digest": model_digest(model)})
    pq.write_table(pa.Table.from_pylist(rows, FLEET_ROW), file, compression="none")


def write_listing(
    view: LakeView,
    places: Sequence[Place],
    models: dict[str, tuple[int, str | None]],
    groups: dict[str, int],
    file: Path,
) -> None:
    import pyarrow.parquet as pq

    keys = pa.array([place.segment for place in places], pa.string())
    known = view.segments.table
    table = known.take(pc.index_in(keys, known[KEY].combine_chunks()))
    columns = {
        **{
            exported.WEIGHT[name]: pa.array([place.weights.get(name) for place in places], pa.float64())
            for name in WEIGHTED
        },
        **_quantile_columns([place.quantiles for place in places]),
        exported.TRAINING: pa.array([place.training for place in places], pa.string()),
        exported.DIGEST: pa.array([models.get(place.segment, (None, None))[1] for place in places], pa.string()),
        exported.MODEL_GROUP: pa.array([models.get(place.segment, (None, None))[0] for place in places], pa.int32()),
        exported.ROWS_GROUP: pa.array([groups.get(place.segment) for place in places], pa.int32()),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    pq.write_table(table, file)


def _quantile_columns(quantiles: Sequence[Quantiles]) -> dict[str, pa.Array]:
    rows = [
        {
            LEVELS: levels_said(each.levels) if each.levels else None,
            OFFSETS: each.offsets.tobytes() if each.levels else None,
            NEVER_NEGATIVE: each.never_negative,
        }
        for each in quantiles
    ]
    table = pa.Table.from_pylist(rows, QUANTILES)
    return {column: table[name] for name, column in exported.QUANTILE.items()}


def write_question(view: LakeView, version: int, places: Sequence[Place], file: Path) -> None:
    question: Question = view.question
    span = question.span
    if question.time:
        span = replace(span, first=str(view.features.profile.times.ahead(span.horizon)[0]))
    used = {place.training for place in places if place.weights}
    said = {
        "format": exported.FORMAT,
        "version": version,
        "levels": view.levels,
        "segment": question.segment,
        "time": question.time,
        "label": question.label,
        "columns": sorted(question.columns),
        "span": {
            name: getattr(span, name) for name in ("last", "horizon", "frequency", "phase", "first", "last_label")
        },
        "inputs": {key: inputs.to_json() for key, inputs in question.inputs.items() if key in used},
    }
    file.write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")
