"""A published champion of hostile segments, served by their own models, the fleet-wide one and the baseline."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.champions.gate import Decision
from assets.champions.promotion import promote
from assets.evaluation import conformal
from assets.evaluation.incumbent import Champion
from assets.evaluation.judge import EVALUATION, Evaluation, evaluate
from assets.features.publish import current_features
from assets.forecasts.publish import FORECASTS, publish_forecasts
from assets.models.line import BASELINE, BLEND, FLEET_MODEL, SEGMENT_MODEL, WEIGHTED, weight_column
from resources.judging import Promotion
from resources.lake import Lake
from resources.mlflow import exported_uris_kept
from resources.spark import Spark
from tests.champions.test_publish import in_run
from tests.cycle import House, flats, give_store, house, minimal, sales, without_time
from tests.hostile import HOSTILE
from tests.lakes import Trained, train

MODELS = (SEGMENT_MODEL, FLEET_MODEL, BASELINE, BLEND)
WEIGHTS_OF = {BLEND: {SEGMENT_MODEL: 0.3, FLEET_MODEL: 0.5}}
KEY = ["shop", "store"]
QUANTILES = ["p05", "p95"]


@dataclass(frozen=True)
class Served:
    """A lake with a registered champion, and the batch forecasts that it made."""

    made: Trained
    champion: Champion
    forecasts: pd.DataFrame

    @property
    def home(self) -> House:
        """The folder, settings, lake."""
        return self.made.home

    @property
    def lake(self) -> Lake:
        """The fleet's lake."""
        return self.home.lake


def hostile_sales() -> pd.DataFrame:
    """Sales of shops with hostile names, in three stores; one is closed, and one opened only lately."""
    names = [*HOSTILE, "closed", "short"]
    frame = sales(names, 60)
    store = {name: number % 3 for number, name in enumerate(names)}
    frame["store"] = [store[name] for name in frame["shop"]]  # pandas' own `map` takes NUL for the end of a text
    frame["weather"] = np.where(np.arange(len(frame)) % 7 < 3, "rain", "sun")
    frame["open"] = np.arange(len(frame)) % 5 < 4
    frame["footfall"] = np.where(frame["sold"].isna(), np.nan, frame["price"] * 10)
    day = (frame["day"] - frame["day"].min()).dt.days
    gone = (frame["shop"] == "closed") & (day >= 50) | (frame["shop"] == "short") & (day < 50)
    return frame[~gone].reset_index(drop=True)


def hostile_keys(**keys: Any) -> dict[str, Any]:
    """`fleet.yaml` for them."""
    features = {**minimal()["features"], "known_ahead": ["price", "weather", "open"], "past_only": ["footfall"]}
    evaluation = {**minimal()["evaluation"], "season": 3}  # no divisor of the horizon: origins tell
    return {"segment": KEY, "features": features, "fleet_model": {"enabled": True}, "evaluation": evaluation, **keys}


def published(made: Trained, chosen: Any = None) -> Served:
    """Publishes a training, served as `chosen` says of a frame of the listing, and makes its batch forecasts."""
    home = made.home
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conformal, "FEWEST_SCORES", 10)
        judged, _ = evaluate(home.lake, home.spark, home.settings, made.features, made.training, None)
    if chosen is not None:
        judged = rewritten(home.lake, judged, chosen)
    if not home.mlflow.tracking_uri.startswith("sqlite") or home.mlflow.is_empty():
        give_store(home)
    mlflow = in_run(home.mlflow, "run")
    champion = promote(home.lake, mlflow, Promotion(), judged, Decision(True, ("a test",))).serving
    mlflow.end_run("FINISHED")
    assert champion is not None
    if home.settings.time is None:
        return Served(made, champion, pd.DataFrame())
    publish_forecasts(home.lake, home.spark, home.settings, current_features(home.lake), champion)
    rows = home.lake.table(FORECASTS).arrow().to_pandas()
    return Served(made, champion, rows.sort_values([*home.settings.segment, "day"], ignore_index=True))


def rewritten(lake: Lake, judged: Evaluation, chosen: Any) -> Evaluation:
    """An evaluation whose segments are served by others."""
    table = lake.table(EVALUATION)
    rows = table.arrow(version=judged.version)
    at = rows.schema.get_field_index("chosen")
    names = list(chosen(rows.to_pandas()))
    rows = rows.set_column(at, rows.schema.field(at), pa.array(names, pa.string()))
    for name in WEIGHTED:
        at = rows.schema.get_field_index(weight_column(name))
        weights = [WEIGHTS_OF.get(each, {each: 1.0}).get(name, 0.0) for each in names]
        rows = rows.set_column(at, rows.schema.field(at), pa.array(weights, pa.float64()))
    with table.staging() as staging:
        Path(staging.uri).mkdir(parents=True)
        pq.write_table(rows, f"{staging.uri}/rows.parquet")
        return dataclasses.replace(judged, version=table.commit(staging, rows.schema, judged.record))


def champion_model(served: Served) -> Any:
    """The champion as MLflow gives it to who asks for the alias."""
    import mlflow

    store = served.home.settings.tracking_uri  # before MLflow exports it, and the settings name the export
    # what MLflow exports of this fleet would be the store of every server that a later test starts
    with exported_uris_kept():
        mlflow.set_tracking_uri(store)
        mlflow.set_registry_uri(store)
    return mlflow.pyfunc.load_model("models:/tiny@champion")


def in_turn(listing: pd.DataFrame) -> list[str]:
    """Everybody who may serve, segment by segment; those without a model of their own by the fleet-wide one."""
    turns = enumerate(listing["shard"])
    return [MODELS[turn % 3] if shard else MODELS[1 + turn % 2] for turn, shard in turns]


_made: dict[str, Served] = {}


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Served:
    """The fleet with time; read only."""
    if "served" not in _made:
        home = house(tmp_path_factory.mktemp("served"), spark, hostile_sales(), **hostile_keys())
        _made["served"] = published(train(home), in_turn)
    return _made["served"]


@pytest.fixture(scope="session")
def timeless(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Served:
    """A fleet without time; read only."""
    if "timeless" not in _made:
        table = pd.concat([flats(["plain", "Plain", "a|b", "100%", "007"], 120), flats(["tiny"], 6, seed=5)])
        home = house(tmp_path_factory.mktemp("timeless"), spark, table, **without_time(fleet_model={"enabled": True}))
        _made["timeless"] = published(train(home), in_turn)
    return _made["timeless"]


@pytest.fixture
def own_served(served: Served, tmp_path: Path) -> Served:
    """A copy of the lake for one test, with the features as they are committed; its MLflow is the other's."""
    shutil.copytree(served.home.folder, tmp_path / "own")
    home = House(tmp_path / "own", served.home.spark)
    made = dataclasses.replace(served.made, home=home, features=current_features(home.lake))
    return dataclasses.replace(served, made=made)


__all__ = ["Served", "own_served", "served", "timeless"]
