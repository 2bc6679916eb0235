"""Forecasts of a whole fleet by its own models, beside a bare loop of `Booster(model_str)` and `predict`.

    .venv/bin/python -m benchmarks.training --segments 5000 --folder /tmp/made      # makes and trains the fleet
    .venv/bin/python -m benchmarks.scoring --folder /tmp/made --repeat 3 --json scoring.json

Our side is everything between committed features and committed forecasts, on a Spark session whose workers are up. The
bare loop, one process a core, has models as text and rows as arrays in memory before the clock starts, and keeps
nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assets.evaluation.incumbent import Champion
from assets.features.publish import current_features
from assets.features.rebuild import committed_files
from assets.forecasts.publish import FORECASTS, publish_forecasts
from assets.models.bucket import read_bucket
from assets.models.packing import model_text
from assets.models.store import latest_training, listing_of
from benchmarks.figures import show
from benchmarks.made_fleet import made_settings
from benchmarks.processes import raced
from resources.lake import Lake
from resources.spark import Spark


def main() -> None:
    """Runs the benchmark and prints, or writes, its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--buckets", type=int, default=20, help="how many the bare loop forecasts each time")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    settings = made_settings(given.folder / "lake")
    lake, spark = Lake(uri=settings.lake), Spark()
    spark.session().range(1).count()
    _ours(lake, spark, settings)  # as in a run, where workers have trained and judged before they forecast
    runs = []
    for _ in range(given.repeat):
        rows, seconds = _ours(lake, spark, settings)
        _, bare_rate = _bare(lake, given.buckets)
        ratio = rows / seconds / bare_rate
        runs.append(
            {
                "our rows/s": round(rows / seconds),
                "bare rows/s": round(bare_rate),
                "rows": rows,
                "seconds": round(seconds, 1),
                "ours / bare": round(ratio, 3),
            }
        )
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores",
        "ratio, median": round(statistics.median(run["ours / bare"] for run in runs), 3),
        "runs": runs,
    }
    show(figures, given.json)


def _champion(lake: Lake) -> Champion:
    training = latest_training(lake)
    assert training is not None, "train the fleet first"
    listing = listing_of(lake, training)
    place = listing.schema.get_field_index("chosen")
    by_model = listing.set_column(place, listing.schema.field(place), pa.array(["segment"] * len(listing)))
    return Champion(1, {"published": "made", "training": training.id}, by_model)


def _ours(lake: Lake, spark: Spark, settings: Any) -> tuple[int, float]:
    shutil.rmtree(lake.path(FORECASTS), ignore_errors=True)
    champion, features = _champion(lake), current_features(lake)
    began = time.perf_counter()
    made = publish_forecasts(lake, spark, settings, features, champion)
    seconds = time.perf_counter() - began
    assert made.record["by_model"]["segment"] == made.record["rows"]
    return made.record["rows"], seconds


def _bare(lake: Lake, buckets: int) -> tuple[int, float]:
    processes = os.cpu_count() or 1
    chosen = sorted(committed_files(lake, current_features(lake)))[:buckets]
    return raced(_predict_all, [(lake.uri, chosen[n::processes]) for n in range(processes)])


def _predict_all(uri: str, buckets: list[int], start: Barrier, results: Any) -> None:
    import lightgbm as lgb

    lake = Lake(uri=uri)
    features, champion = current_features(lake), _champion(lake)
    files, last = committed_files(lake, features), features.profile.last_period
    loaded: list[tuple[str, np.ndarray]] = []
    for bucket in buckets:
        mine = champion.listing.filter(pc.equal(champion.listing["bucket"], bucket))
        ahead = {
            rows.key: rows.x[rows.periods > last] for rows in read_bucket(files[bucket], features.recipe).segments()
        }
        loaded += [(text, ahead[key]) for key, text in _texts(lake, mine)]
    start.wait()
    done = 0
    for text, x in loaded:
        done += len(lgb.Booster(model_str=text).predict(x, num_threads=1))
    results.put(done)


def _texts(lake: Lake, listed: pa.Table) -> Iterator[tuple[str, str]]:
    """Segments and LightGBM's whole text of their models."""
    for shard in listed["shard"].unique().to_pylist():
        rows = pq.read_table(f"{lake.root}/{shard}", columns=["segment", "served"]).to_pylist()
        yield from ((row["segment"], model_text(row["served"])) for row in rows)


if __name__ == "__main__":
    main()
