"""A lake in a bucket, with Spark on this machine: weeks, and all that people do with a champion afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.champions.export import export_fleet
from assets.champions.lineage import segment_lineage
from assets.champions.registry import Word
from assets.champions.rollback import roll_back
from assets.champions.served_fleet import ServedFleet
from assets.champions.served_listing import Published
from assets.champions.serving.answer import answered
from assets.evaluation.incumbent import Champion, published_champion
from orchestration.retention import carry_out, plan_of
from resources.files import files_under
from resources.spark import Spark
from tests.buckets import served_bucket
from tests.cycle import House, house, sales

pytestmark = pytest.mark.slow
WEEKS = (60, 64, 68)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Iterator[House]:
    """Three weeks of a fleet whose lake is a bucket; MLflow's store is a file beside it."""
    folder = tmp_path_factory.mktemp("bucket")
    store = {"tracking_uri": f"sqlite:///{folder}/mlflow.db"}
    with pytest.MonkeyPatch.context() as environment, served_bucket(environment, spark) as bucket:
        made = house(folder, spark, lake=f"{bucket}/fleet", mlflow=store)
        for days in WEEKS:
            made.bring(sales(4, days))
            assert made.run().success, days
        yield made


def champion(home: House) -> Champion:
    found = published_champion(home.lake, home.mlflow)
    assert found is not None
    return found


def answers(home: House, asked: pd.DataFrame) -> pd.DataFrame:
    """What the REST service would say from the bucket."""
    serving = champion(home)
    published = Published(home.lake.root, serving.tags["published"], serving.tags["training"])
    return answered(ServedFleet(published).view(), serving.version, asked)


def test_weeks_are_committed_in_the_bucket_and_nowhere_else(home: House) -> None:
    assert home.versions() == len(WEEKS)
    assert set(home.forecasts()["shop"]) == {f"shop {n}" for n in range(4)}
    assert not (home.folder / "lake").exists()
    assert home.status()["champion"]["version"] == champion(home).version
    assert len(list(files_under(home.settings.lake))) > 50


def test_it_answers_as_the_batch_forecasts_say(home: House, tmp_path: Path) -> None:
    import mlflow

    forecasts = home.forecasts().sort_values(["shop", "day"], ignore_index=True)
    asked = forecasts[["shop", "day"]]
    np.testing.assert_allclose(answers(home, asked)["forecast"], forecasts["forecast"])
    export_fleet(home.lake, champion(home), tmp_path / "export")
    exported = mlflow.pyfunc.load_model(str(tmp_path / "export")).predict(asked)
    np.testing.assert_allclose(exported["forecast"], forecasts["forecast"])


def test_a_rollback_and_where_a_model_comes_from(home: House) -> None:
    newest = champion(home).version
    assert segment_lineage(home.lake, home.mlflow, "shop 1")
    roll_back(home.lake, home.mlflow, Word("Ann", ""))
    assert champion(home).version == newest - 1
    roll_back(home.lake, home.mlflow, Word("Ann", ""), to=newest)
    assert champion(home).version == newest


def test_a_prune_takes_what_nothing_needs(home: House) -> None:
    before = {file.uri for file in files_under(home.settings.lake)}
    plan = plan_of(home.lake, home.mlflow, home.settings, 1)
    carry_out(home.lake, plan)
    after = {file.uri for file in files_under(home.settings.lake)}
    assert plan.files
    assert len(before - after) >= plan.files
    asked = home.forecasts()[["shop", "day"]]
    assert np.isfinite(answers(home, asked)["forecast"]).all()
    home.bring(sales(4, WEEKS[-1] + 4))
    assert home.run().success
