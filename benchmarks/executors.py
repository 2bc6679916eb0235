"""How a training spreads over executors: list scheduling of measured task times, and where more of them stop helping.

    .venv/bin/python -m benchmarks.executors --lake FOLDER --segments 50000 --json executors.json
    .venv/bin/python -m benchmarks.executors --rate 45.5 --rate-cores 2      # fits a second, measured on so many cores

Task times are those of the lake's last training: the seconds of a bucket's segments, and what a task costs beside
them. With a rate in place of a lake all segments are alike. Each task goes to the core that is free first, as Spark
gives them out, in the order of the training: the largest first. What one process does alone (the fleet-wide model) is
added. Reading from the lake costs no more with more readers here, which a slow file system would not grant.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assets.features.contract import bucket_count
from assets.models.store import latest_training, listing_of
from benchmarks.figures import show
from resources.lake import Lake

FITS, ROWS = 3, 730
EXECUTORS, CORES = (1, 10, 100), 8
# Spark's driver gives out tasks one after the other: seconds a task
DISPATCH = 0.005


@dataclass(frozen=True)
class Fleet:
    """A fleet to schedule: seconds of each segment, rows of each, and the seconds that nothing runs beside."""

    seconds: np.ndarray
    buckets: int
    alone: float
    a_task: float


def makespan(tasks: Sequence[float], cores: int, dispatch: float = DISPATCH) -> float:
    """Seconds until all tasks are done by list scheduling (Graham, 1969): each goes to the first free core."""
    free = [0.0] * min(cores, max(len(tasks), 1))
    heapq.heapify(free)
    given = end = 0.0
    for seconds in tasks:
        given = max(given + dispatch, heapq.heappop(free))
        heapq.heappush(free, given + seconds)
        end = max(end, given + seconds)
    return end


def limits(tasks: Sequence[float], cores: int, dispatch: float = DISPATCH) -> dict[str, float]:
    """Below what no schedule can go: all work over all cores, the longest task, and the driver's giving out."""
    return {"work / cores": sum(tasks) / cores, "longest task": max(tasks), "driver": dispatch * len(tasks)}


def tasks_of(fleet: Fleet) -> list[float]:
    """Seconds of each bucket's task, the longest first; segments lie in buckets as a hash would have them."""
    places = np.random.default_rng(0).integers(0, fleet.buckets, len(fleet.seconds))
    sums = np.bincount(places, fleet.seconds, fleet.buckets)
    return sorted((sums[sums > 0] + fleet.a_task).tolist(), reverse=True)


def measured(folder: Path, segments: int) -> Fleet:
    """The fleet of a lake's last training, drawn from with replacement for so many segments."""
    lake = Lake(uri=str(folder))
    training = latest_training(lake)
    assert training is not None, f"{folder} holds no training"
    listing = listing_of(lake, training).to_pandas().dropna(subset=["seconds"])
    drawn = listing.sample(segments, replace=True, random_state=0)
    took = training.record["seconds"]
    return Fleet(
        drawn["seconds"].to_numpy(),
        bucket_count(segments, int(drawn["rows"].sum())),
        float(took.get("fleet-wide model", 0.0)),
        0.5,  # reading a bucket and looking for models that are there already
    )


def alike(segments: int, rate: float, cores: int) -> Fleet:
    """A fleet of equal segments of 730 rows, three fits each, at a rate that was measured for a whole training."""
    seconds = np.full(segments, FITS * cores / rate)
    return Fleet(seconds, bucket_count(segments, segments * ROWS), 0.0, 0.0)


def main() -> None:
    """Simulates 1, 10 and 100 executors."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument("--lake", type=Path)
    source.add_argument("--rate", type=float)
    options.add_argument("--rate-cores", type=int, default=2)
    options.add_argument("--segments", type=int, default=50_000)
    options.add_argument("--cores", type=int, default=CORES, help="of an executor")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    segments, lake = given.segments, given.lake
    fleet = measured(lake, segments) if lake else alike(segments, given.rate, given.rate_cores)
    tasks = tasks_of(fleet)
    rows: list[dict[str, Any]] = []
    for executors in EXECUTORS:
        cores = executors * given.cores
        took = makespan(tasks, cores)
        most = limits(tasks, cores)
        rows.append({
            "executors": executors,
            "cores": cores,
            "hours": round((took + fleet.alone) / 3600, 3),
            "seconds": round(took, 1),
            "busy": round(sum(tasks) / cores / took, 3),
            "held back by": max(most, key=lambda name: most[name]),
            "limits": {name: round(seconds, 1) for name, seconds in most.items()},
        })  # fmt: skip
    shape = {"tasks": len(tasks), "median task": statistics.median(tasks), "longest task": tasks[0]}
    show({"segments": given.segments, "alone": fleet.alone, **shape, "executors": rows}, given.json)


if __name__ == "__main__":
    main()
