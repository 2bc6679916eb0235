"""Whole weekly cycles in this process, and what is to be seen of one afterwards."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from dagster import DagsterInstance, ExecuteInProcessResult

from assets.champions.asset import CHAMPIONS
from assets.evaluation.judge import EVALUATION
from assets.evaluation.live_errors import LIVE_ERRORS, LIVE_PERIODS
from assets.features.publish import FEATURES, QUARANTINE, SEGMENTS
from assets.forecasts.publish import FORECASTS
from assets.models.store import MODELS
from assets.raw.snapshot import RAW
from orchestration.status import fleet_status
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.settings import Settings, read_settings
from resources.spark import Spark

TABLES = (RAW, FEATURES, QUARANTINE, SEGMENTS, MODELS, EVALUATION, CHAMPIONS, FORECASTS)
HORIZON, SEASON = 4, 4


@dataclass
class House:
    """A folder with a table, its `fleet.yaml`, the lake, and a Dagster instance that remembers its runs."""

    folder: Path
    spark: Spark
    instance: DagsterInstance = field(default_factory=DagsterInstance.ephemeral)

    @property
    def settings(self) -> Settings:
        """The settings as `fleet.yaml` has them now."""
        return read_settings(self.folder / "fleet.yaml")

    @property
    def lake(self) -> Lake:
        """The fleet's lake."""
        return Lake(uri=self.settings.lake)

    @property
    def mlflow(self) -> Mlflow:
        """The fleet's MLflow."""
        return Mlflow(tracking_uri=self.settings.tracking_uri, experiment=self.settings.name)

    def configure(self, **keys: Any) -> None:
        """Writes `fleet.yaml`: the keys given over those of a small daily fleet."""
        document = {**minimal(), **keys}
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")

    def bring(self, table: pd.DataFrame) -> None:
        """Replaces the source table, in the format that `source.path` ends in."""
        path = Path(self.settings.source.path)
        if path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)

    def run(self, *, segments: list[str] | None = None, raise_on_error: bool = False) -> ExecuteInProcessResult:
        """One weekly cycle."""
        from orchestration.definitions import fleet_definitions

        settings = self.settings
        job = fleet_definitions(settings).resolve_job_def("weekly_cycle")
        config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
        if segments is not None:
            config["ops"] = {f"{settings.name}__segment_models": {"config": {"segments": segments}}}
        return job.execute_in_process(
            instance=self.instance,
            run_config=config,
            resources={"spark": self.spark},
            raise_on_error=raise_on_error,
        )

    def commits(self) -> dict[str, int | None]:
        """Version of the last commit of each table."""
        return {name: self.lake.table(name).version() for name in (*TABLES, LIVE_PERIODS, LIVE_ERRORS)}

    def status(self) -> dict[str, Any]:
        """What `fleet status --json` prints."""
        return json.loads(json.dumps(fleet_status(self.lake, self.mlflow)))

    def forecasts(self) -> pd.DataFrame:
        """The committed forecasts."""
        return self.lake.table(FORECASTS).arrow().to_pandas()

    def versions(self) -> int:
        """How many versions the registered model has."""
        return len(self.mlflow.client().search_model_versions(f"name='{self.settings.name}'"))


def minimal() -> dict[str, Any]:
    """`fleet.yaml` of a daily fleet with a season of four days, forecast four days ahead."""
    return {
        "name": "tiny",
        "source": {"path": "table.parquet"},
        "segment": "shop",
        "time": "day",
        "frequency": "D",
        "label": "sold",
        "horizon": HORIZON,
        "features": {
            "known_ahead": ["price"],
            "lags": [HORIZON, 2 * HORIZON],
            "rolling": {"windows": [4], "statistics": ["mean"]},
            "calendar": ["day_of_week"],
            "at_origin": True,
        },
        "model": {"objective": "regression", "rounds": 30, "blend": False, "params": {"min_data_in_leaf": 3}},
        "fleet_model": {"enabled": False},
        "evaluation": {"holdout": HORIZON, "season": SEASON, "minimum_history": 20},
        "checks": {"freshness": 100_000},
        "lake": "lake",
    }


def without_time(**keys: Any) -> dict[str, Any]:
    """What to configure instead, for the fleet of `flats`."""
    dated = dict.fromkeys(("time", "frequency", "horizon"))
    return {**dated, "segment": "district", "label": "rent", "features": {}, "evaluation": {}, **keys}


def flats(districts: list[str] | int = 4, rows: int = 150, seed: int = 0) -> pd.DataFrame:
    """Flats whose rent follows size, floor and kind, which a mean cannot know.

    Of each district a longer table starts with the rows of a shorter one.
    """
    names = [f"district {n}" for n in range(districts)] if isinstance(districts, int) else districts
    frames = []
    for number, name in enumerate(names):
        draw, most = np.random.default_rng([seed, number]), 4000
        size, floor = draw.uniform(20, 120, most).round(3), draw.integers(0, 9, most)
        kind = draw.choice(["old", "new", "rebuilt"], most)
        rent = 50 * number + 8 * size + 20 * floor + np.where(kind == "new", 300, 0) + draw.normal(0, 10, most)
        columns = {"size": size, "floor": floor, "kind": kind, "lift": floor > 4, "rent": rent.round(2)}
        frames.append(pd.DataFrame({"district": name, **columns})[:rows])
    return pd.concat(frames, ignore_index=True)


@cache
def empty_store() -> Path:
    """An MLflow store with its tables made, to copy: making them takes seconds."""
    from mlflow import MlflowClient

    folder = Path(tempfile.mkdtemp(prefix="fleet_tests_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


def give_store(home: House) -> None:
    """Puts an empty MLflow store where the house's fleet has its own."""
    target = Path(home.settings.tracking_uri.removeprefix("sqlite:///"))
    target.parent.mkdir(parents=True)
    shutil.copy(empty_store(), target)


def house(folder: Path, spark: Spark, table: pd.DataFrame | None = None, **keys: Any) -> House:
    """A folder made ready to run."""
    folder.mkdir(parents=True, exist_ok=True)
    made = House(folder, spark)
    made.configure(**keys)
    if table is not None:
        made.bring(table)
    return made


def sales(
    shops: list[str] | int = 4,
    days: int = 60,
    start: str = "2024-01-01",
    ahead: int = HORIZON,
    shift: tuple[int, float] = (0, 0.0),
) -> pd.DataFrame:
    """Sales that the price explains and last season does not: a model beats the baseline, given the price.

    The last `ahead` days have a price and no label. From day `shift[0]` on, `shift[1]` more are sold. Each day's values
    depend on shop and day alone, so that a longer table starts with the rows of a shorter one.
    """
    names = [f"shop {n}" for n in range(shops)] if isinstance(shops, int) else shops
    times = pd.date_range(start, periods=days + ahead, freq="D")
    frames = []
    for number, name in enumerate(names):
        draw = np.random.default_rng(number)
        price = draw.choice([1.0, 2.0, 3.0, 4.0, 5.0], 1000)[: days + ahead]
        noise = draw.normal(0, 0.5, 1000)[: days + ahead]
        sold = 50.0 + 10 * number - 8 * price + noise
        sold[shift[0] :] += shift[1]
        sold[days:] = np.nan
        frames.append(pd.DataFrame({"shop": name, "day": times, "sold": sold, "price": price}))
    return pd.concat(frames, ignore_index=True)
