"""From how many rows on a GPU fits faster than a CPU core: both timed on growing row counts, by a worker."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from assets.models.device import CALIBRATION, Device, device_of
from assets.models.fit import fit
from assets.models.isolation import Lost, isolated
from assets.raw.recipe import Recipe
from resources.computing import Gpu
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.spark import Spark
from resources.spread import Say, spread

TIMES = pa.schema([("rows", pa.int64()), ("cpu", pa.float64()), ("gpu", pa.float64()), ("reason", pa.string())])
REPEATS, STEP, FEWEST_ROWS = 3, 3, 1_000
TIME_LIMIT = 3600.0


@dataclass(frozen=True)
class Trial:
    """Row counts to time on both devices, and the table's features."""

    rows: tuple[int, ...]
    features: int
    recipe: Recipe
    device: Device


def row_counts(most: int) -> tuple[int, ...]:
    """1,000 rows, and three times as many again and again, up to a number."""
    return tuple(FEWEST_ROWS * STEP**power for power in range(40) if FEWEST_ROWS * STEP**power <= most)


def calibrate(lake: Lake, spark: Spark, gpu: Gpu, recipe: Recipe, most: int, say: Say | None = None) -> dict[str, Any]:
    """Times one fit on a CPU core and on a GPU, up to `most` rows, and keeps where they cross in the lake.

    Gives `device`, `features`, `crossing` (rows; None where the CPU always won) and `times`.

    Raises:
        InputError: the GPU cannot be used.
    """
    trial = Trial(row_counts(most), len(recipe.features), recipe, device_of(spark, gpu))
    times = spread(spark, [], timed, TIMES, what="timed", total=len(trial.rows), say=say, on_gpu=[trial]).to_pylist()
    if failed := [each["reason"] for each in times if each["gpu"] is None]:
        remedy = "see that its driver and LightGBM's device are there (docs/cluster.md)"
        raise InputError([Problem("gpu.device", f"{gpu.device} cannot be used: {failed[0]}", remedy)])
    pairs = [(each["rows"], each["cpu"], each["gpu"]) for each in times]
    kept = {"device": gpu.device, "features": trial.features, "crossing": crossing(pairs), "times": times}
    lake.write_file(CALIBRATION, json.dumps(kept).encode())
    return kept


def crossing(times: Sequence[tuple[int, float, float]]) -> int | None:
    """From how many rows on the GPU is the faster one, of (rows, CPU seconds, GPU seconds) by rising rows.

    Between two row counts the logarithm of the ratio is taken to be a straight line over the logarithm of the rows.
    None where the CPU is faster at the end.
    """
    ratios = [(math.log(rows), math.log(on_gpu / on_cpu)) for rows, on_cpu, on_gpu in times]
    if not ratios or ratios[-1][1] >= 0:
        return None
    last_lost = max((place for place, (_, ratio) in enumerate(ratios) if ratio >= 0), default=None)
    if last_lost is None:
        return times[0][0]
    (x0, y0), (x1, y1) = ratios[last_lost], ratios[last_lost + 1]
    return max(times[last_lost][0] + 1, math.ceil(math.exp(x0 + (x1 - x0) * y0 / (y0 - y1))))


def timed(trial: Trial) -> Iterator[dict[str, Any]]:
    """For each row count the median seconds of a fit on a CPU core and on the GPU (see `TIMES`)."""
    import lightgbm  # noqa: F401  # not once a child

    with trial.device.turn():
        work = partial(_timed, trial)
        for place, found in isolated(work, range(len(trial.rows)), time_limit=TIME_LIMIT, retries=0):
            lost = {"cpu": None, "gpu": None, "reason": found.reason} if isinstance(found, Lost) else found
            yield {"rows": trial.rows[place], **lost}


def _timed(trial: Trial, place: int) -> dict[str, Any]:
    address = trial.device.assigned()
    if address is None:
        return {"cpu": None, "gpu": None, "reason": "no GPU was offered"}
    rows = trial.rows[place]
    draw = np.random.default_rng(rows)
    x = draw.normal(size=(rows, trial.features))
    y = np.abs(x[:, 0] * 3 + draw.normal(size=rows))
    model, on_gpu = trial.recipe.model, trial.device.recipe_at(address, trial.recipe).model
    y = (y > 1).astype(float) if model["objective"] == "binary" else 1 + y
    try:
        fit(x[:FEWEST_ROWS], y[:FEWEST_ROWS], on_gpu | {"rounds": 1}, [])  # a device's programs are compiled once
        return {"cpu": _seconds(x, y, model), "gpu": _seconds(x, y, on_gpu), "reason": None}
    except Exception as error:
        return {"cpu": None, "gpu": None, "reason": f"{type(error).__name__}: {error}"[:300]}


def _seconds(x: Any, y: Any, model: dict[str, Any]) -> float:
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        fit(x, y, model, [])
        found.append(time.perf_counter() - began)
    return statistics.median(found)
