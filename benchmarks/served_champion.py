"""A made fleet with a champion to serve: a few fitted models, lent to every segment, in shards as usual."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import lightgbm as lgb
import pyarrow as pa
import pyarrow.parquet as pq

from assets.champions.served_listing import FLEET, Published
from assets.champions.served_model import ENTRY, NEEDED, pinned, save_model
from assets.evaluation.incumbent import CHAMPIONS
from assets.features.publish import SEGMENTS, current_features
from assets.features.rebuild import committed_files
from assets.models.bucket import read_bucket
from assets.models.fit import fit
from assets.models.line import LINE, SEGMENT_MODEL, SHARD, TRAINED
from assets.models.packing import packed
from assets.models.shard import BOOSTERS, SEGMENTS_A_SHARD
from assets.models.store import LISTING, MODELS, TRAINING, UNPROVEN, aligned
from resources.lake import Lake

FITTED = 40


def fitted_models(lake: Lake, count: int = FITTED) -> list[lgb.Booster]:
    """Boosters of the first segments, fitted as training does."""
    features = current_features(lake)
    files = committed_files(lake, features)
    found: list[lgb.Booster] = []
    for bucket in sorted(files):
        for rows in read_bucket(files[bucket], features.recipe).segments():
            x, y = rows.through(features.profile.last_period)
            found.append(fit(x, y, features.recipe.model, []))
            if len(found) == count:
                return found
    return found


def publish(lake: Lake, boosters: list[lgb.Booster]) -> Published:
    """Commits a training and a champion in which every segment is served by a model of its own."""
    training, published = uuid.uuid4().hex, uuid.uuid4().hex
    listed = lake.table(SEGMENTS).arrow(["fleet_bucket", "__segment"]).to_pandas()
    models, lines = cycle([packed(booster) for booster in boosters]), []
    for bucket, own in listed.groupby("fleet_bucket")["__segment"]:
        keys = sorted(own)
        for start in range(0, len(keys), SEGMENTS_A_SHARD):
            shard = f"{BOOSTERS}/{bucket:05d}/{start:020d}-lent.parquet"
            some = keys[start : start + SEGMENTS_A_SHARD]
            _write_shard(lake, shard, list(zip(some, models, strict=False)))
            lines += [{"segment": key, "bucket": bucket, "shard": shard} for key in some]
    alike = {"status": TRAINED, "chosen": SEGMENT_MODEL, TRAINING: training}
    rows = aligned(pa.Table.from_pylist([line | alike for line in lines]), LISTING)
    record = {TRAINING: training, "recipe": current_features(lake).record["recipe"], "segments": None}
    record |= {"fleet_model": None, UNPROVEN: {}}
    _commit(lake, MODELS, aligned(rows, LINE), TRAINING, training, record)
    _commit(lake, CHAMPIONS, rows, "published", published, {"published": published})
    return Published(lake.root, published, training)


def save(published: Published, folder: Path) -> Path:
    """The MLflow model of a published fleet, as registering writes it."""
    save_model(folder, ENTRY, pinned(NEEDED), [])
    (folder / FLEET).write_text(published.to_json(), encoding="utf-8")
    return folder


def _write_shard(lake: Lake, shard: str, models: list[tuple[str, bytes]]) -> None:
    rows: Iterator[dict[str, Any]] = ({"segment": key, "served": model} for key, model in models)
    Path(lake.path(shard)).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), SHARD), lake.path(shard), compression="none")


def _commit(lake: Lake, name: str, rows: pa.Table, column: str, value: str, record: dict[str, Any]) -> None:
    table = lake.table(name)
    with table.staging() as staging:
        folder = Path(staging.uri) / f"{column}={value}"
        folder.mkdir(parents=True)
        pq.write_table(rows.drop_columns([column]) if column in rows.column_names else rows, folder / "rows.parquet")
        named = rows if column in rows.column_names else rows.append_column(column, pa.array([value] * len(rows)))
        table.commit(staging, named.schema, json.loads(json.dumps(record)), mode="append", partition_by=[column])
