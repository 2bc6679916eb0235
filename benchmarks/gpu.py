"""LightGBM on a GPU against a CPU: rows times features times bins, one segment alone, and many at a time on one GPU.

    .venv/bin/python -m benchmarks.gpu --device cuda --most 10000000 --json gpu.json      # where there is a GPU
    .venv/bin/python -m benchmarks.gpu --device gpu --most 3000 --features 12 --bins 63   # anywhere, through PoCL

`gpu` is the OpenCL device, `cuda` needs LightGBM built from source (docs/cluster.md). Each figure is the median of
`--repeat` fits, after one that lets the device compile its programs; what does not fit into its memory is named.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from assets.models.calibrate import crossing
from assets.models.fit import boosted
from assets.models.isolation import Lost, isolated
from benchmarks.figures import show
from benchmarks.processes import raced

LEAVES, ROUNDS = 31, 100
TIME_LIMIT = 3600.0
MANY_ROWS, MANY_FITS = 10_000, 4
AT_ONCE = (1, 2, 4, 8)


def params_of(device: str, bins: int, threads: int) -> dict[str, Any]:
    """LightGBM's parameters for one side."""
    of_device = {"device_type": device, "gpu_device_id": 0, "gpu_use_dp": False} if device != "cpu" else {}
    platform_id = {"gpu_platform_id": 0} if device == "gpu" else {}
    shared = {"objective": "regression", "num_leaves": LEAVES, "max_bin": bins, "verbosity": -1, "seed": 0}
    return {**shared, "num_threads": threads, **of_device, **platform_id}


def made(rows: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Random features, and a label that two of them explain."""
    draw = np.random.default_rng(rows + features)
    x = draw.standard_normal((rows, features), dtype=np.float32)
    return x, x[:, 0] * 3 + np.abs(x[:, 1]) + draw.standard_normal(rows, dtype=np.float32)


def seconds(device: str, rows: int, features: int, bins: int, threads: int, repeat: int) -> float | str:
    """Median seconds of a fit, or why there is none."""
    x, y = made(rows, features)
    params = params_of(device, bins, threads)
    try:
        boosted(x, y, params, 1, [])
        found = []
        for _ in range(repeat):
            began = time.perf_counter()
            boosted(x, y, params, ROUNDS, [])
            found.append(time.perf_counter() - began)
        return statistics.median(found)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]


def alone(device: str, cases: list[tuple[int, int, int]], repeat: int) -> list[dict[str, Any]]:
    """One segment alone: one CPU core, all cores, and the device, for each case of rows, features and bins."""
    cores = os.cpu_count() or 1
    sides = {"cpu, a core": ("cpu", 1), "cpu, all cores": ("cpu", cores), device: (device, cores)}
    asked = [(case, name, *side) for case in cases for name, side in sides.items()]
    found: dict[tuple[int, int, int], dict[str, Any]] = {case: {} for case in cases}

    def work(place: int) -> float | str:
        case, _, kind, threads = asked[place]
        return seconds(kind, *case, threads, repeat)

    for place, took in isolated(work, range(len(asked)), time_limit=TIME_LIMIT, retries=0):
        case, name, *_ = asked[place]
        found[case][name] = took.reason if isinstance(took, Lost) else took
    return [{"rows": rows, "features": f, "bins": bins, **found[rows, f, bins]} for rows, f, bins in cases]


def crossings(device: str, figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each number of features and bins from how many rows on the device is faster than one core."""
    found = []
    for shape in sorted({(each["features"], each["bins"]) for each in figures}):
        own = [each for each in figures if (each["features"], each["bins"]) == shape]
        times = [(each["rows"], each["cpu, a core"], each[device]) for each in own]
        known = [each for each in times if all(isinstance(number, float) for number in each[1:])]
        found.append({"features": shape[0], "bins": shape[1], "rows": crossing(known)})
    return found


def fit_many(device: str, features: int, bins: int, start: Barrier, results: Queue[int]) -> None:
    """Fits a few segments, one after the other, beside other processes."""
    x, y = made(MANY_ROWS, features)
    boosted(x, y, params_of(device, bins, 1), 1, [])
    start.wait()
    for _ in range(MANY_FITS):
        boosted(x, y, params_of(device, bins, 1), ROUNDS, [])
    results.put(MANY_FITS)


def many(device: str, features: int, bins: int) -> list[dict[str, Any]]:
    """Models a second of some processes at once, each on a CPU core or all on the one GPU."""
    return [
        {"processes": count, **{kind: raced(fit_many, [(kind, features, bins)] * count)[1] for kind in ("cpu", device)}}
        for count in AT_ONCE
        if count <= 2 * (os.cpu_count() or 1)
    ]


def gpu_name() -> str:
    """What the driver calls the GPU; empty without NVIDIA's driver."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def main() -> None:
    """Times all cases and prints them as JSON."""
    import lightgbm

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", choices=["gpu", "cuda"], default="gpu")
    options.add_argument("--most", type=int, default=10_000_000, help="rows, from 1,000 on in steps of ten")
    options.add_argument("--features", type=int, nargs="+", default=[12, 100])
    options.add_argument("--bins", type=int, nargs="+", default=[63, 255])
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    counts = [10**power for power in range(3, 10) if 10**power <= given.most]
    cases = [(rows, features, bins) for features in given.features for bins in given.bins for rows in counts]
    figures = alone(given.device, cases, given.repeat)
    works = all(isinstance(each[given.device], float) for each in figures[:1])
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "lightgbm": lightgbm.__version__}
    found = {
        **machine,
        "gpu": gpu_name() or "none: OpenCL on the processor, if at all",
        "alone": figures,
        "crossings": crossings(given.device, figures),
        "many at a time": many(given.device, given.features[0], given.bins[0]) if works else [],
    }
    show(found, given.json)


if __name__ == "__main__":
    main()
