"""Whole weekly cycles, as `fleet run` does them, on workers that share nothing with the driver.

The lake is a bucket, MLflow a server; workers run as another user, in folders of their own, with a Python that was
shipped to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from assets.champions.asset import CHAMPIONS
from assets.evaluation.live_errors import LIVE_ERRORS
from assets.models.line import TRAINED
from assets.models.store import latest_training
from deploy.cluster import Cluster, free_port
from resources.files import files_under, write_parquet
from resources.mlflow import CHAMPION
from resources.settings import Settings, read_settings
from resources.spark import Spark
from tests.buckets import REACHED_BY, served_bucket
from tests.cluster.apart import open_folder, packed_python, stranger
from tests.cluster.command import fleet
from tests.cluster.driver import Driver
from tests.cluster.programs import problems_of
from tests.cycle import House, house, minimal, sales
from tests.lakes import Trained, listed, train
from tests.mlflow_server import Server

pytestmark = [pytest.mark.slow, pytest.mark.proof]
WEEK_ONE, WEEK_TWO = 60, 64


@dataclass(frozen=True)
class Apart:
    """A driver's folder, a cluster whose workers know nothing of it, and the bucket that both reach."""

    folder: Path
    cluster: Cluster
    bucket: str

    def bring(self, table: pd.DataFrame) -> None:
        """Replaces the source table, which is in the bucket too."""
        write_parquet(pa.Table.from_pandas(table, preserve_index=False), f"{self.bucket}/in/table.parquet")

    def configure(self, tracking_uri: str, environment: Path) -> None:
        """Writes `fleet.yaml`."""
        document: dict[str, Any] = {
            **minimal(),
            "source": {"path": f"{self.bucket}/in/table.parquet"},
            "lake": f"{self.bucket}/fleet",
            "mlflow": {"tracking_uri": tracking_uri},
            "spark": {
                "master": self.cluster.master, "memory": "1g", "executor_memory": "512m", "ui": True,
                "environment": str(environment), "variables": [*REACHED_BY, "AWS_ENDPOINT_URL"],
                "conf": {"spark.sql.shuffle.partitions": 2, "spark.master.ui.port": self.cluster.ui_port},
            },
        }  # fmt: skip
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    def given(self) -> dict[str, Any]:
        """What a driver's `Spark` is configured with."""
        return Spark.of(self.settings).model_dump()

    @property
    def settings(self) -> Settings:
        return read_settings(self.folder / "fleet.yaml")

    def fleet(self, *arguments: str) -> str:
        """What the command says in the driver's folder."""
        return fleet(self.folder, *arguments)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("driver")
    with pytest.MonkeyPatch.context() as environment, served_bucket(environment) as bucket, open_folder() as theirs:
        cluster = Cluster(theirs, account=stranger())
        tracking = tmp_path_factory.mktemp("mlflow")
        server = Server(tracking)
        try:
            cluster.start()
            for number in range(2):
                cluster.add_worker(f"worker{number}", cores=1, memory="1g", gpus=[])
            cluster.wait_for_workers(2)
            made = Apart(folder, cluster, bucket)
            made.configure(server.uri, packed_python(theirs))
            yield made
        finally:
            cluster.stop()
            server.kill()


@pytest.fixture(scope="module")
def weeks(apart: Apart) -> list[str]:
    """What two weekly cycles said."""
    apart.bring(sales(4, WEEK_ONE))
    said = [apart.fleet("run")]
    apart.bring(sales(4, WEEK_TWO))
    return [*said, apart.fleet("run")]


@pytest.fixture
def here(tmp_path: Path, spark: Any) -> Trained:
    """The same fleet, trained in this process from a folder."""
    return train(house(tmp_path / "here", spark, sales(4, WEEK_TWO)))


def test_two_weeks_are_trained_judged_and_published(apart: Apart, weeks: list[str], here: Trained) -> None:
    home = House(apart.folder, here.home.spark)
    assert home.versions() >= 1
    assert home.mlflow.aliased(CHAMPION) is not None
    assert home.lake.table(CHAMPIONS).exists()
    assert set(home.forecasts()["shop"]) == {f"shop {n}" for n in range(4)}
    assert home.lake.table(LIVE_ERRORS).row_count() > 0, "the first week's forecasts met the labels of the second"
    training = latest_training(home.lake)
    assert training is not None
    there = listed(Trained(home, here.features, here.recipe, training))
    assert {row["status"] for row in there.values()} == {TRAINED}
    digests = {key: (row["fingerprint"], row["served_digest"]) for key, row in listed(here).items()}
    assert {key: (row["fingerprint"], row["served_digest"]) for key, row in there.items()} == digests, "the same models"


def test_nothing_is_shared_but_the_bucket(apart: Apart, weeks: list[str]) -> None:
    assert {path.name for path in apart.folder.iterdir()} <= {"fleet.yaml", "dagster"}, "no lake beside the driver"
    logs = list(apart.cluster.folder.glob("worker*/work/app-*/*/stderr"))
    assert len({log.parts[-5] for log in logs}) == 2, "both workers had an executor"
    if apart.cluster.account is not None:
        assert {log.stat().st_uid for log in logs} == {apart.cluster.account}
    assert not [file.uri for file in files_under(f"{apart.bucket}/fleet") if "probe-" in file.uri or ".tmp" in file.uri]


def test_the_page_of_spark_is_told(weeks: list[str]) -> None:
    for said in weeks:
        assert re.search(r"Spark's page is\s+http://127\.0\.0\.1:\d+", said)


def test_rows_that_a_user_brings_are_scored(apart: Apart, weeks: list[str]) -> None:
    ahead = sales(4, WEEK_TWO)
    ahead = ahead[ahead["sold"].isna()].drop(columns="sold")
    write_parquet(pa.Table.from_pandas(ahead, preserve_index=False), f"{apart.bucket}/ahead.parquet")
    out = apart.folder.with_name("scored.parquet")
    apart.fleet("score", "--input", f"{apart.bucket}/ahead.parquet", "--out", str(out))
    scored = pd.read_parquet(out)
    assert len(scored) == len(ahead)
    assert scored["forecast"].notna().all()


def test_a_bucket_that_workers_cannot_reach_is_named(apart: Apart, weeks: list[str]) -> None:
    given = apart.given()
    given["variables"] = [name for name in given["variables"] if name != "AWS_ENDPOINT_URL"]
    given["conf"] |= {"spark.executorEnv.AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    driver = Driver()
    try:
        said = driver.run(problems_of, given)
    finally:
        driver.close()
    assert f"does not see the lake {apart.bucket}/fleet" in said
    assert "spark.variables" in said
