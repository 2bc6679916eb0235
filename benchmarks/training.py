"""Training of a whole fleet, from committed features to committed models and Dagster events, beside two other ways.

    .venv/bin/python -m benchmarks.training --segments 5000 --repeat 3 --json training.json

Our side is a Dagster run of `segment_models` in a process of its own: Spark's start, the fleet-wide model, fits,
shards, commit, events and metadata all count. Every few seconds it is halted (its JVM, driver and workers), and the
others fit one bucket a core: a bare loop of LightGBM, and joblib over pandas groups. So all see the same machine.
Halted time is not counted. Who needs the machine for something else meanwhile makes a file `pause` in the folder:
nothing goes on, or counts, while it is there.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.bare_loop import bare_fits
from benchmarks.figures import show
from benchmarks.made_fleet import made_settings, make_fleet
from benchmarks.processes import family, halted, resident_bytes, role
from benchmarks.usual_ways import joblib_fits
from resources.lake import Lake

ROOT = Path(__file__).resolve().parent.parent
ROWS = 730


def main() -> None:
    """Runs the benchmark and prints, or writes, its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=5_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--every", type=float, default=40.0, help="seconds between two turns of the bare loop")
    parser.add_argument("--folder", type=Path, help="keep the lake here; an existing one is used again")
    parser.add_argument("--share", type=float, default=1.0, help="train the segments of this share of the buckets only")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ours:
        _train(given.ours, given.share)
        return
    folder = given.folder or Path(tempfile.mkdtemp(prefix="fleet_training_"))
    if not (folder / "lake").exists():
        make_fleet(folder, given.segments, ROWS, os.cpu_count() or 1)
    runs = [_run(folder, given.every, given.share) for _ in range(given.repeat)]
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "segments": given.segments,
        "share of the buckets trained": given.share,
        "rows a segment": ROWS,
        **{
            f"ours / {name}, median": round(statistics.median(run[f"ours / {name}"] for run in runs), 3)
            for name in ("bare", "joblib")
        },
        "runs": runs,
    }
    show(figures, given.json)
    if not given.folder:
        shutil.rmtree(folder)


def _run(folder: Path, every: float, share: float) -> dict[str, Any]:
    for made in ("boosters", "models"):
        shutil.rmtree(folder / "lake" / made, ignore_errors=True)
    shutil.rmtree(folder / "dagster", ignore_errors=True)
    (folder / "dagster").mkdir()
    began, paused = time.perf_counter(), 0.0
    others: dict[str, list[tuple[int, float]]] = {"bare": [], "joblib": []}
    command = [sys.executable, "-m", "benchmarks.training", "--ours", str(folder), "--share", str(share)]
    ours = subprocess.Popen(command, cwd=ROOT)
    peaks: dict[str, int] = {}
    turns, next_turn = _turns(folder), began + every
    watcher = threading.Thread(target=_watch_memory, args=(ours, peaks), daemon=True)
    watcher.start()
    while ours.poll() is None:
        time.sleep(0.05)
        if time.perf_counter() >= next_turn:
            halt = time.perf_counter()
            with halted(ours.pid):
                _take_turns(next(turns), folder, others)
            paused += time.perf_counter() - halt
            next_turn = time.perf_counter() + every
        if (folder / "pause").exists():
            halt = time.perf_counter()
            with halted(ours.pid):
                while (folder / "pause").exists():
                    time.sleep(0.5)
            paused += time.perf_counter() - halt
            next_turn += time.perf_counter() - halt
    if ours.returncode:
        raise SystemExit(f"our side ended with {ours.returncode}")
    seconds = time.perf_counter() - began - paused
    if not others["bare"]:
        _take_turns(next(turns), folder, others)
    return _figures(folder, seconds, others, peaks)


def _take_turns(files: list[list[str]], folder: Path, others: dict[str, list[tuple[int, float]]]) -> None:
    sides = {
        "bare": lambda: bare_fits(files, folder / "bare"),
        "joblib": lambda: joblib_fits([file for own in files for file in own], folder / "joblib"),
    }
    in_turn = sorted(sides, reverse=len(others["bare"]) % 2 == 1)
    for name in in_turn:
        others[name].append(sides[name]())


def _figures(
    folder: Path, seconds: float, others: dict[str, list[tuple[int, float]]], peaks: dict[str, int]
) -> dict[str, Any]:
    from assets.models.store import latest_training

    training = latest_training(Lake(uri=made_settings(folder / "lake").lake))
    assert training is not None
    record, fits = training.record, training.record["fits"]
    rates = {name: statistics.mean(rate for _, rate in turns) for name, turns in others.items()}
    return {
        "seconds": round(seconds, 1),
        "fits": fits,
        "our fits/s": round(fits / seconds, 2),
        **{f"{name} fits/s": round(rate, 2) for name, rate in rates.items()},
        **{f"{name} fits": sum(done for done, _ in turns) for name, turns in others.items()},
        **{f"ours / {name}": round(fits / seconds / rate, 3) for name, rate in rates.items()},
        "phases": record["seconds"],
        "fleet-wide model": record["fleet_model"],
        "bytes a model": round(record["bytes"] / max(1, 2 * record["fitted"])),
        "peak MiB": {name: round(value / 2**20) for name, value in peaks.items()},
    }


def _watch_memory(process: subprocess.Popen[bytes], peaks: dict[str, int]) -> None:
    while process.poll() is None:
        for pid in family(process.pid):
            name = role(pid)
            peaks[name] = max(peaks.get(name, 0), resident_bytes(pid))
        time.sleep(1.0)


def _turns(folder: Path) -> Iterator[list[list[str]]]:
    """For each turn of the bare loop one bucket a process; they are taken from all over the fleet."""
    files = sorted(str(file) for file in (folder / "lake/features").rglob("part.parquet"))
    processes = os.cpu_count() or 1
    step = max(1, len(files) // (10 * processes))
    chosen = cycle(files[::step])
    while True:
        yield [[next(chosen)] for _ in range(processes)]


def _train(folder: Path, share: float) -> None:
    """Our side: one Dagster run of `segment_models` on an instance with batched SQLite."""
    os.environ["DAGSTER_HOME"] = str(folder / "dagster")
    settings_file = (ROOT / "dagster.yaml").read_text().replace(".dagster", str(folder / "dagster/storage"))
    (folder / "dagster/dagster.yaml").write_text(settings_file)
    from dagster import AssetKey, DagsterInstance, materialize

    from assets.features.publish import SEGMENTS, current_features
    from assets.models.asset import SEGMENT_MODELS, models_asset
    from assets.partitions import add_partitions, bucket_of
    from orchestration.event_log import enable_batching
    from resources.mlflow import Mlflow
    from resources.spark import Spark

    enable_batching()
    settings = made_settings(folder / "lake")
    lake = Lake(uri=settings.lake)
    with DagsterInstance.get() as instance:
        keys = lake.table(SEGMENTS).arrow(columns=["__segment"])["__segment"].to_pylist()
        add_partitions(instance, settings.partitions_name, keys)
        buckets = current_features(lake).buckets
        asked = keys if share == 1 else [key for key in keys if bucket_of(key, buckets) < share * buckets]
        config = {"ops": {f"made__{SEGMENT_MODELS}": {"config": {"segments": None if share == 1 else asked}}}}
        # a side that is halted sends no heartbeats
        mlflow = Mlflow(tracking_uri=settings.tracking_uri, experiment=settings.name)
        resources = {"lake": lake, "spark": Spark(conf={"spark.network.timeout": "7200s"}), "mlflow": mlflow}
        result = materialize([models_asset(settings)], instance=instance, resources=resources, run_config=config)
        marked = len(instance.get_materialized_partitions(AssetKey(["made", SEGMENT_MODELS])))
    if not result.success or marked != len(asked):
        raise SystemExit(f"{marked} of {len(asked)} partitions marked")


if __name__ == "__main__":
    main()
