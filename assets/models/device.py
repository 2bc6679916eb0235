"""The GPU that large segments are fitted on: who is, LightGBM's parameters for it, and how it is recorded."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from assets.raw.recipe import Recipe
from resources.computing import CPU, Gpu
from resources.discovery import discovered
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.spark import Spark
from resources.workers import gpu_address

CALIBRATION = "gpu/calibration.json"


@dataclass(frozen=True)
class Device:
    """A kind of GPU; `address` where it is always the same one, and not Spark's to give."""

    kind: str
    platform: int
    double_precision: bool
    address: str | None = None

    def assigned(self) -> str | None:
        """The address that the task which asks is to use; None where there is no GPU for it."""
        return self.address or gpu_address()

    def recipe_at(self, address: str, recipe: Recipe) -> Recipe:
        """The recipe with LightGBM's parameters for the GPU at an address.

        https://lightgbm.readthedocs.io/en/latest/Parameters.html#gpu-parameters
        """
        of_device = {"device_type": self.kind, "gpu_device_id": int(address), "gpu_use_dp": self.double_precision}
        # without a platform OpenCL's first device is taken, whatever the number says
        of_opencl = {"gpu_platform_id": self.platform} if self.kind == "gpu" else {}
        params = {**recipe.model["params"], **of_device, **of_opencl}
        return recipe.model_copy(update={"model": {**recipe.model, "params": params}})

    def fingerprint(self, of_cpu: str) -> str:
        """The fingerprint of a model that was fitted on it: not the CPU's, whose bytes are another's."""
        return hashlib.blake2b(f"{of_cpu}\0{self.kind}\0{self.double_precision}".encode(), digest_size=16).hexdigest()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for the GPU where nobody else hands it out: one process of this machine at a time has it."""
        if self.address is None:
            yield
            return
        path = f"{tempfile.gettempdir()}/fleet-gpu-{os.getuid()}-{self.address}.lock"
        with open(path, "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True)
class Placement:
    """Segments of so many labelled rows are fitted on a device, by tasks that need a share of it each."""

    device: Device
    minimum_rows: int
    per_task: float


def placement_of(lake: Lake, spark: Spark, gpu: Gpu) -> Placement | None:
    """Where large segments are fitted; None where all are fitted on CPUs.

    Raises:
        InputError: nothing says yet from how many rows on a GPU pays, or this machine has none to offer.
    """
    if gpu.device == CPU:
        return None
    least = _calibrated(lake, gpu) if gpu.minimum_rows == "auto" else gpu.minimum_rows
    return None if least is None else Placement(device_of(spark, gpu), least, gpu.per_task)


def device_of(spark: Spark, gpu: Gpu) -> Device:
    """The kind of GPU that is configured; with its address where Spark hands out none."""
    address = discovered(gpu.discovery_script)[0] if spark.is_local else None
    return Device(gpu.device, gpu.platform, gpu.double_precision, address)


def _calibrated(lake: Lake, gpu: Gpu) -> int | None:
    """From how many rows on the device was faster; None if it never was."""
    kept: Mapping[str, Any] = json.loads(lake.read_file(CALIBRATION) or "{}")
    if kept.get("device") != gpu.device:
        what = f"auto, but from how many rows on {gpu.device} is faster was never timed"
        raise InputError([Problem("gpu.minimum_rows", what, "run fleet calibrate, or write a number of rows")])
    rows: int | None = kept["crossing"]
    return rows
