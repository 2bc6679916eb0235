"""What a cluster costs: one training by Spark in this process and by a standalone cluster on the same cores, in turns.

    .venv/bin/python -m benchmarks.cluster --segments 1000 --repeat 3 --json cluster.json

Both train every segment anew, each time in a fresh process. `start` is the session, with the check of the workers on
the cluster's side; `train` is from committed features to committed models, of which the fleet-wide model is one task,
on the cores of one executor.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from assets.features.publish import current_features, current_recipe
from assets.models.train import train_fleet
from benchmarks.figures import show
from benchmarks.made_fleet import made_settings, make_fleet
from deploy.cluster import Cluster
from resources.files import remove_file
from resources.lake import Lake
from resources.spark import Spark

LOCAL, CLUSTER = "local", "cluster"
ROWS, WORKERS = 730, 2


def trained(lake: Path, given: dict[str, Any]) -> dict[str, float]:
    """Seconds that a session's start and a training of all segments took, and the training's phases."""
    began = time.perf_counter()
    spark, settings, own = Spark(**given), made_settings(lake), Lake(uri=str(lake))
    spark.session()
    started = time.perf_counter()
    training, _ = train_fleet(own, spark, current_features(own), current_recipe(own, spark, settings), anew=True)
    ended = time.perf_counter()
    remove_file(f"{lake}/{training.record['fleet_model']['file']}")  # or the other side would find it fitted
    return {"start": started - began, "train": ended - started, **training.record["seconds"]}


def in_turns(lake: Path, sides: dict[str, dict[str, Any]], repeat: int) -> dict[str, list[dict[str, float]]]:
    """Each side's figures, a run of one after a run of the other."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for turn in range(repeat):
        for side in list(sides)[:: 1 if turn % 2 else -1]:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
                found[side].append(fresh.submit(trained, lake, sides[side]).result())
    return found


def summary(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians, and the cluster's as a share of the local one's."""
    medians = {
        side: {part: statistics.median(run[part] for run in runs) for part in runs[0]} for side, runs in found.items()
    }
    return {"medians": medians, "cluster / local": medians[CLUSTER]["train"] / medians[LOCAL]["train"]}


def main() -> None:
    """Makes a fleet and a cluster, and lets both sides train it in turns."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--segments", type=int, default=1_000)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--folder", type=Path, help="keeps the fleet there, for benchmarks.executors")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    cores = os.cpu_count() or WORKERS
    with tempfile.TemporaryDirectory(prefix="fleet_benchmark_") as name:
        folder = Path(name)
        lake = Path(make_fleet(given.folder or folder / "made", given.segments, ROWS, cores).lake)
        (folder / "cluster").mkdir()
        cluster = Cluster(folder / "cluster")
        try:
            cluster.start()
            for number in range(WORKERS):
                cluster.add_worker(f"worker{number}", cores // WORKERS, "2g", [])
            cluster.wait_for_workers(WORKERS)
            sides = {
                LOCAL: {"master": f"local[{cores // WORKERS * WORKERS}]"},
                CLUSTER: {"master": cluster.master, "executor_memory": "1g", "lake": str(lake)},
            }
            found = in_turns(lake, sides, given.repeat)
        finally:
            cluster.stop()
    machine = {"cores": cores, "python": platform.python_version(), "segments": given.segments}
    show({**machine, "runs": found, **summary(found)}, given.json)


if __name__ == "__main__":
    main()
