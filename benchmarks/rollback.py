"""Versions at scale: publishing one, rolling the whole fleet back and forward, some segments, and reading every model.

    .venv/bin/python -m benchmarks.rollback --segments 50000 --repeat 3 --json rollback.json

Listings are as training leaves them, shards hold 64 models; the models are random bytes of the size asked for, because
only the digest check reads them. The registry is MLflow on SQLite, as by default. Spark takes no part.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from dagster import asset, materialize

from assets.champions.listing import fleet_listing
from assets.champions.registry import Fleet, Word, make_champion, now, register
from assets.champions.rollback import roll_back
from assets.evaluation.incumbent import whole_champion
from assets.models.line import SEGMENT_MODEL, SHARD, TRAINED
from assets.models.packing import model_digest
from assets.models.shard import BOOSTERS, SEGMENTS_A_SHARD
from assets.models.store import LISTING
from benchmarks.figures import show
from resources.lake import Lake
from resources.mlflow import Mlflow

SOME = 100


def main() -> None:
    """Runs the benchmark and prints, or writes, its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=50_000)
    parser.add_argument("--model-bytes", type=int, default=20_000, help="of each of a segment's two models")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet_rollback_") as folder:
        lake = Lake(uri=f"{folder}/lake")
        mlflow = Mlflow(tracking_uri=f"sqlite:///{folder}/lake/mlflow/mlflow.db", experiment="made")
        times: dict[str, list[float]] = {}
        _measure(lake, mlflow, given.segments, given.model_bytes, given.repeat, times)
    show(
        {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
            "segments": given.segments,
            "GB of models a version": round(2 * given.segments * given.model_bytes / 1e9, 2),
            **{f"{what}, s": round(statistics.median(each), 2) for what, each in times.items()},
        },
        given.json,
    )


def _measure(lake: Lake, mlflow: Mlflow, segments: int, size: int, repeat: int, times: dict[str, list[float]]) -> None:
    @asset
    def versions(mlflow: Mlflow) -> None:
        word, keys = Word("benchmark"), [f"series {n:06d}" for n in range(segments)]
        fleets = [_fleet(lake, f"training {n}", keys, size) for n in range(2)]
        for fleet in fleets:
            _timed(times, "publish", lambda fleet=fleet: make_champion(mlflow, register(lake, mlflow, fleet), word))
        for number in range(repeat):
            _timed(times, "whole fleet back", lambda: roll_back(lake, mlflow, word, 1))
            _timed(times, "whole fleet forward", lambda: roll_back(lake, mlflow, word, 2))
            some = keys[number * SOME : (number + 1) * SOME]
            _timed(times, f"{SOME} segments back", lambda some=some: roll_back(lake, mlflow, word, 1, some))
            with suppress(Exception):
                roll_back(lake, mlflow, word, 2)
        _timed(times, "every model read and compared", lambda: whole_champion(lake, mlflow))

    materialize([versions], resources={"mlflow": mlflow})


def _timed(times: dict[str, list[float]], what: str, work: Callable[[], Any]) -> None:
    began = time.perf_counter()
    work()
    times.setdefault(what, []).append(time.perf_counter() - began)


def _fleet(lake: Lake, training: str, keys: list[str], size: int) -> Fleet:
    """A fleet whose models are written: every segment served by its own."""
    rows: list[dict[str, Any]] = []
    for number, start in enumerate(range(0, len(keys), SEGMENTS_A_SHARD)):
        shard = f"{BOOSTERS}/{number % 200:05d}/{training.replace(' ', '-')}-{number:05d}.parquet"
        models = [
            {"segment": key, "served": os.urandom(size), "judged": os.urandom(size)}
            for key in keys[start : start + SEGMENTS_A_SHARD]
        ]
        for row in models:
            row |= {f"{fit}_digest": model_digest(row[fit]) for fit in ("served", "judged")}
        Path(lake.path(shard)).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(models, SHARD), lake.path(shard), compression="none")
        alike = {
            "shard": shard,
            "bucket": number % 200,
            "status": TRAINED,
            "chosen": SEGMENT_MODEL,
            "training": training,
        }
        rows += [alike | {name: row[name] for name in ("segment", "served_digest", "judged_digest")} for row in models]
    listing = fleet_listing(pa.Table.from_pylist(rows, LISTING), None, None, now().date())
    return Fleet(listing, {"evaluation": training, "training": training}, "made", {"training": training})


if __name__ == "__main__":
    main()
