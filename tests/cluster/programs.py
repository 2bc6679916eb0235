"""What a driver process does on a cluster, for tests to look at."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import numpy as np
import pyarrow as pa

from assets.features.publish import current_features, current_recipe
from assets.models import tasks
from assets.models import train as train_module
from assets.models.segment import fit_segment
from assets.models.train import train_fleet
from assets.models.worker import BucketTask, Plan, train_bucket
from resources.computing import Gpu
from resources.problems import InputError
from resources.spark import Spark
from resources.spread import spread
from resources.workers import gpu_address
from tests.cycle import House, house
from tests.lakes import Trained, feature_frame, listed, loaded, matrix, mixed_keys, mixed_table, pickled_by_value, train

Given = dict[str, Any]
SEEN = pa.schema([
    *((name, pa.string()) for name in ("task", "address", "folder", "code")),
    *((name, pa.float64()) for name in ("began", "ended")),
])  # fmt: skip
ON_GPU_FROM = 55


def problems_of(given: Given) -> str:
    """What is said of a session that cannot be had."""
    try:
        Spark(**given).session()
    except InputError as error:
        return str(error)
    return ""


def page(given: Given) -> str:
    """What Spark's web page says, at the address that a run shows."""
    address = Spark(**given).ui_address()
    assert address is not None
    return build_opener(ProxyHandler({})).open(address, timeout=60).read().decode().strip()


def asleep(given: Given, per_task: float, on_gpu: int, on_cpu: int, met: Path | None = None) -> list[dict[str, Any]]:
    """Tasks that sleep: each with its GPU address, its executor's folder, and from when to when.

    If they are to have `met`, those on a GPU end only once one on a CPU has begun, and has left that file.
    """
    pickled_by_value(__name__)
    named = [f"gpu {n}:{met or ''}" for n in range(on_gpu)]
    cpu = [f"cpu {n}:{met or ''}" for n in range(on_cpu)]
    return spread(Spark(**given), cpu, _sleep, SEEN, on_gpu=named, per_task=per_task).to_pylist()


def _sleep(task: str) -> Iterator[dict[str, Any]]:
    import assets

    name, _, met = task.partition(":")
    began = time.time()
    if met and name.startswith("cpu"):
        Path(met).touch()
    while met and not Path(met).exists() and time.time() < began + 60:
        time.sleep(0.05)
    time.sleep(1.0)
    seen = {"task": name, "address": gpu_address(), "folder": os.getcwd(), "code": assets.__file__ or ""}
    yield {**seen, "began": began, "ended": time.time()}


def trained_on_gpus(given: Given, folder: Path) -> dict[str, Any]:
    """The fleet of `mixed_table`, its larger segments on GPUs: the listing, and what the models predict."""
    made = train(
        house(folder, Spark(**given), mixed_table(), **mixed_keys()),
        gpu=Gpu(device="gpu", minimum_rows=ON_GPU_FROM, per_task=0.5),
    )
    return {"listed": listed(made), "predicted": predictions(made), "host": socket.gethostname()}


def predictions(made: Trained) -> dict[str, np.ndarray]:
    """What each segment's judged twin says of all its rows."""
    frame = feature_frame(made)
    return {
        key: booster.predict(matrix(frame[frame["__segment"] == key], made.recipe), num_threads=1)
        for key, booster in loaded(made, "judged").items()
    }


def _slow_bucket(task: BucketTask, plan: Plan) -> Iterator[dict[str, Any]]:
    return train_bucket(task, plan, _slow_fit)


def _slow_fit(*given: Any) -> dict[str, Any]:
    time.sleep(5.0)
    return fit_segment(*given)


def train_slowly(given: Given, folder: Path) -> dict[str, dict[str, Any]]:
    """The listing of a fleet that has its features already; each segment is a task of its own, and takes a while."""
    pickled_by_value(__name__)
    tasks.LARGE_SEGMENT, train_module.train_bucket = 1, _slow_bucket
    home = House(folder, Spark(**given))
    features, recipe = current_features(home.lake), current_recipe(home.lake, home.spark, home.settings)
    training, _ = train_fleet(home.lake, home.spark, features, recipe)
    return listed(Trained(home, features, recipe, training))
