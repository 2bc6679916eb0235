"""A lake with a made fleet whose features are committed: segments alike, random features that explain the label."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from assets.features.contract import BUCKET, bucket_count
from assets.features.publish import FEATURES, SEGMENTS
from assets.partitions import bucket_of
from assets.raw.inspect import profile_file
from assets.raw.profile import Profile, Timeline
from assets.raw.recipe import recipe_of
from assets.raw.snapshot import RAW
from resources.lake import Lake
from resources.settings import Settings

HORIZON, FEATURE_COUNT, ROUNDS = 28, 12, 100
COLUMNS = [f"f{n}" for n in range(FEATURE_COUNT)]


def made_settings(lake: Path) -> Settings:
    """Settings of the fleet: 12 features known ahead, 100 rounds, 31 leaves, 63 bins."""
    return Settings.model_validate(
        {
            "name": "made",
            "source": {"path": "none.parquet"},
            "segment": ["series"],
            "time": "day",
            "label": "y",
            "frequency": "D",
            "horizon": HORIZON,
            "features": {"known_ahead": COLUMNS, "lags": [], "rolling": {"windows": []}, "calendar": []},
            "model": {"rounds": ROUNDS, "params": {"num_leaves": 31, "max_bin": 63, "min_data_in_leaf": 20}},
            "tuning": {"enabled": False},  # a week like any other, not the first
            "failures": {"time_limit": 7200.0},
            "evaluation": {"holdout": HORIZON, "season": 7, "minimum_history": 60},
            "lake": str(lake),
        }
    )


def make_fleet(folder: Path, segments: int, rows: int, processes: int) -> Settings:
    """Commits raw (empty, with its profile), segments, and features of so many rows each; gives settings."""
    settings = made_settings(folder / "lake")
    lake = Lake(uri=settings.lake)
    start = pd.Timestamp("2022-01-01")
    last = start + pd.Timedelta(days=rows - 1)
    kinds: dict[str, Any] = {"y": "number", **dict.fromkeys(COLUMNS, "number")}
    timeline = Timeline(
        time_type="date", frequency="D", phase=0,
        first_time=start, last_time=last, first_label=start, last_label=last,
    )  # fmt: skip
    profile = Profile(rows=segments * rows, kinds=kinds, timeline=timeline)
    record = {"digest": f"made-{segments}-{rows}", "fleet": "made", "rows": profile.rows, "files": 1}
    _commit(lake, RAW, pa.table({"y": pa.array([], pa.float64())}), record)
    lake.write_file(profile_file(record["digest"], settings), profile.to_json().encode())
    keys = [f"series {n:06d}" for n in range(segments)]
    buckets = bucket_count(segments, profile.rows)
    places = [bucket_of(key, buckets) for key in keys]
    alike = {"__rows": rows, "__labelled": rows, "__label": 100.0, "__open": True}
    listed = pa.table({BUCKET: pa.array(places, pa.int32()), "__segment": keys, "series": keys})
    for name, value in alike.items():
        listed = listed.append_column(name, pa.array([value] * segments))
    _commit(lake, SEGMENTS, listed, record)
    features = {
        "digest": record["digest"], "profile": profile.to_json(), "raw_version": 0, "raw_digest": record["digest"],
        "buckets": buckets, "recipe": recipe_of(settings, profile).model_dump(), "segments": segments,
        "rows": {"read": profile.rows, "valid": profile.rows, "quarantined": 0, "by_reason": {}},
        "segments_version": 0, "quarantine_version": 0,
    }  # fmt: skip
    grouped: dict[int, list[str]] = {}
    for key, place in zip(keys, places, strict=True):
        grouped.setdefault(place, []).append(key)
    table = lake.table(FEATURES)
    with table.staging() as staging:
        write = partial(_write_bucket, staging.uri, profile.last_period - rows + 1, rows, start)
        with ProcessPoolExecutor(processes) as pool:
            list(pool.map(write, grouped.items()))
        some = pq.read_schema(next(Path(staging.uri).rglob("*.parquet")))
        table.commit(staging, some.append(pa.field(BUCKET, pa.int32())), features, partition_by=[BUCKET])
    return settings


def _write_bucket(root: str, first: int, rows: int, start: pd.Timestamp, bucket: tuple[int, list[str]]) -> None:
    number, keys = bucket
    all_rows = rows + HORIZON
    parts = [_segment_table(key, first, rows, all_rows, start) for key in sorted(keys)]
    folder = Path(root) / f"{BUCKET}={number}"
    folder.mkdir(parents=True)
    pq.write_table(pa.concat_tables(parts), folder / "part.parquet")


def _segment_table(key: str, first: int, rows: int, all_rows: int, start: pd.Timestamp) -> pa.Table:
    draw = np.random.default_rng(int(key.split()[1]))
    x = draw.normal(size=(all_rows, FEATURE_COUNT))
    y = 100 + x @ draw.normal(0, 5, FEATURE_COUNT) + draw.normal(0, 3, all_rows)
    columns: dict[str, Any] = {
        "series": [key] * all_rows,
        "__segment": [key] * all_rows,
        "__period": pa.array(np.arange(first, first + all_rows), pa.int32()),
        "__time": pa.array(pd.date_range(start, periods=all_rows, freq="D"), pa.timestamp("us")),
        "y": pa.array(np.where(np.arange(all_rows) < rows, y, np.nan), from_pandas=True),
        "__assumed": pa.array([False] * all_rows),
    }
    return pa.table(columns | {name: x[:, place] for place, name in enumerate(COLUMNS)})


def _commit(lake: Lake, name: str, rows: pa.Table, record: dict[str, Any]) -> None:
    table = lake.table(name)
    with table.staging() as staging:
        Path(staging.uri).mkdir(parents=True)
        pq.write_table(rows, f"{staging.uri}/rows.parquet")
        table.commit(staging, rows.schema, json.loads(json.dumps(record)))
