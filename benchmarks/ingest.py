"""Rows a second from CSV to committed features, beside Spark reading and writing the same rows without us.

    .venv/bin/python -m benchmarks.ingest --rows 2000000 --repeat 3 --json ingest.json

Both sides run in one process on a Spark session that is up, and take turns, each the first every other time. Ours is a
snapshot (hashed, read, inspected, committed), the contract, quarantine, segments, lags, windows and calendar, committed
by bucket. The other side reads the CSV with its types given and writes Parquet: the rows that came. By itself it then
reads the feature rows that we committed and writes them as they are, by bucket: what Spark's reader and writer alone
take for what we make. With `--expectations` the contract has rules for three columns and so many expectations.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assets.features.contract import BUCKET
from assets.features.publish import FEATURES, publish_features
from assets.raw.ingest import ingest
from benchmarks.figures import show
from benchmarks.processes import family, resident_bytes
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark

DAYS, FILES = 730, 8
SCHEMA = "shop string, day date, sold double, price double, promotion boolean"


def main() -> None:
    """Runs the benchmark and prints, or writes, its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--by-time", action="store_true", help="files hold some days each, of all segments")
    parser.add_argument("--expectations", type=int, default=0)
    parser.add_argument("--memory", default="4g", help="Spark's heap; it fills up before it is collected")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fleet_ingest_"))
    size = _write_table(folder / "in", given.rows // DAYS, given.by_time)
    spark = Spark(table=str(folder / "in"), memory=given.memory)
    spark.session().range(1).count()
    rows, contract = given.rows // DAYS * DAYS, _contract(given.expectations)
    runs = [_turns(folder, spark, rows, contract, bool(number % 2)) for number in range(given.repeat)]
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores",
        "rows": rows,
        "by time": given.by_time,
        "expectations": given.expectations,
        "MB of CSV": round(size / 1e6),
        "Spark's memory": given.memory,
        "times Spark's own, median": round(statistics.median(run["times Spark's own"] for run in runs), 2),
        "runs": runs,
    }
    show(figures, given.json)
    shutil.rmtree(folder)


def _write_table(folder: Path, shops: int, by_time: bool) -> int:
    folder.mkdir()
    days = pd.date_range("2024-01-01", periods=DAYS).astype(str)
    for number, some in enumerate(np.array_split(np.arange(DAYS if by_time else shops), FILES)):
        draw = np.random.default_rng(number)
        shop, day = np.arange(shops) if by_time else some, some if by_time else np.arange(DAYS)
        rows = len(shop) * len(day)
        names = np.array([f"shop {each:06d}" for each in shop])
        table = pd.DataFrame({
            "shop": np.tile(names, len(day)) if by_time else np.repeat(names, len(day)),
            "day": np.repeat(days[day], len(shop)) if by_time else np.tile(days[day], len(shop)),
            "sold": draw.gamma(3, 20, rows).round(2),
            "price": draw.choice([1.0, 2.5, 3.75], rows),
            "promotion": draw.random(rows) < 0.1,
        })  # fmt: skip
        table.to_csv(folder / f"{number}.csv", index=False)
    return sum(file.stat().st_size for file in folder.iterdir())


def _contract(expectations: int) -> dict[str, Any]:
    """What a drafted contract is like; every row keeps to it."""
    if not expectations:
        return {}
    columns = {
        "price": {"type": "number", "minimum": 0, "maximum": 500, "action": "warn"},
        "promotion": {"type": "boolean", "nullable": False},
        "sold": {"minimum": 0},
    }
    rules = [{"name": f"e{n}", "predicate": f"sold >= {-n} or promotion"} for n in range(expectations)]
    return {"columns": columns, "expectations": rules}


def _turns(folder: Path, spark: Spark, rows: int, contract: dict[str, Any], theirs_first: bool) -> dict[str, Any]:
    peak = _Peak()
    plain = _timed(lambda: _plain(folder, spark)) if theirs_first else 0.0
    with peak:
        ours = _timed(lambda: _ours(folder, spark, contract))
    plain = plain or _timed(lambda: _plain(folder, spark))
    features = _timed(lambda: _plain_features(folder, spark))
    return {
        "first": "Spark" if theirs_first else "we",
        "our seconds": round(ours, 1),
        "Spark's seconds": round(plain, 1),
        "Spark's seconds for the feature rows": round(features, 1),
        "our rows/s": round(rows / ours),
        "times Spark's own": round(ours / plain, 2),
        "times Spark's own, feature rows too": round(ours / (plain + features), 2),
        "peak MiB": round(peak.bytes / 2**20),
    }


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _ours(folder: Path, spark: Spark, contract: dict[str, Any]) -> None:
    shutil.rmtree(folder / "lake", ignore_errors=True)
    settings = Settings.model_validate(
        {
            "name": "ingest", "source": {"path": str(folder / "in"), "format": "csv"}, "segment": "shop", "time": "day",
            "label": "sold", "horizon": 28, "features": {"known_ahead": ["price", "promotion"]},
            "lake": str(folder / "lake"), "contract": contract,
        }
    )  # fmt: skip
    lake = Lake(uri=settings.lake)
    ingest(lake, spark, settings)
    publish_features(lake, spark, settings)


def _plain(folder: Path, spark: Spark) -> None:
    read = spark.session().read.option("header", "true").schema(SCHEMA).csv(str(folder / "in"))
    read.write.mode("overwrite").parquet(str(folder / "plain"))


def _plain_features(folder: Path, spark: Spark) -> None:
    files = Lake(uri=str(folder / "lake")).table(FEATURES).files()
    read = spark.session().read.option("basePath", files[0].partition(f"/{BUCKET}=")[0]).parquet(*files)
    read.write.mode("overwrite").partitionBy(BUCKET).parquet(str(folder / "plain_features"))


class _Peak:
    """The most memory this process and its descendants hold while the `with` block runs."""

    def __init__(self) -> None:
        self.bytes, self._done = 0, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._watcher.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            self.bytes = max(self.bytes, sum(resident_bytes(pid) for pid in family(os.getpid())))


if __name__ == "__main__":
    main()
