"""A process that runs `champions` of a fleet, takes its time over it, and prints when it was inside: began, ended."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from dagster import materialize

from assets.champions import asset as asset_module
from assets.champions.asset import champions_asset
from orchestration import event_log
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.settings import read_settings
from resources.spark import Spark
from tests.instances import SQLITE, documented_settings, instance_of

original = asset_module._gates_word


def slowly(*arguments: Any) -> Any:
    began = time.time()
    outcome = original(*arguments)
    time.sleep(3)
    print("inside", began, time.time(), flush=True)
    return outcome


def main(fleet_yaml: str, folder: str) -> None:
    event_log.REPOSITORY_ROOT = Path(folder)
    asset_module._gates_word = slowly
    settings = read_settings(fleet_yaml)
    mlflow = Mlflow(tracking_uri=settings.tracking_uri, experiment=settings.name)
    resources = {"lake": Lake(uri=settings.lake), "mlflow": mlflow, "spark": Spark()}
    with instance_of(documented_settings(SQLITE), Path(folder)) as instance:
        materialize([champions_asset(settings)], instance=instance, resources=resources)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
