"""`fleet calibrate`: from how many rows on a segment is fitted on a GPU."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestration.terminal import DEFAULT_CONFIG, Config, err, mistakes_shown, print_columns, settings_of
from resources.computing import CPU
from resources.problems import InputError, Problem


def calibrate(
    config: Config = DEFAULT_CONFIG,
    rows: Annotated[int, typer.Option(min=1_000, help="Time both devices up to so many rows.")] = 1_000_000,
) -> None:
    """Times fits on a CPU core and on a GPU, and keeps from how many rows on the GPU is faster."""
    with mistakes_shown():
        settings = settings_of(config)
        if settings.gpu.device == CPU:
            remedy = "write gpu: {device: gpu} or {device: cuda} first"
            raise InputError([Problem("gpu.device", "is cpu: there is nothing to compare it with", remedy)])
        from assets.features.publish import FEATURES, current_recipe
        from assets.models.calibrate import calibrate as timed
        from resources.lake import Lake
        from resources.spark import Spark

        lake, spark = Lake(uri=settings.lake), Spark.of(settings)
        if not lake.table(FEATURES).exists():
            raise InputError([Problem(f"fleet {settings.name}", "has no features yet", "run the job ingest first")])
        found = timed(lake, spark, settings.gpu, current_recipe(lake, spark, settings), rows, err.print)
    shown = {
        f"{each['rows']:,} rows": f"cpu {each['cpu']:.3f} s, {found['device']} {each['gpu']:.3f} s"
        for each in found["times"]
    }
    said = "the CPU was always faster" if found["crossing"] is None else f"{found['crossing']:,} rows"
    print_columns(f"{settings.name}: calibrated", {**shown, "on the GPU from": said})
