"""Committed features: what the tables hold, when they are new, and how they lie on disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyspark import TaskContext

from assets.features import settled
from assets.features.contract import BUCKET
from assets.features.publish import (
    FEATURES,
    QUARANTINE,
    SEGMENTS,
    FeatureSet,
    current_features,
    current_recipe,
    publish_features,
)
from assets.features.settled import Folders
from assets.partitions import bucket_of, partition_key
from assets.raw.ingest import ingest
from assets.raw.inspect import snapshot_profile
from assets.raw.parse import KEY, PERIOD
from assets.raw.source import ROW
from resources.exchange import EXCHANGE
from resources.settings import Settings
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet, daily_sales
from tests.lakes import pickled_by_value


def publish(spark: Spark, fleet: Fleet, settings: Settings | None = None) -> FeatureSet:
    ingest(fleet.lake, spark, settings or fleet.settings)
    return publish_features(fleet.lake, spark, settings or fleet.settings)


def test_nothing_before_the_first_cycle(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    with pytest.raises(FileNotFoundError, match="run the weekly cycle first"):
        current_features(fleet.lake)
    with pytest.raises(FileNotFoundError, match="run the weekly cycle first"):
        snapshot_profile(fleet.lake, spark, fleet.settings)


def test_a_cycle_and_its_repetition(spark: Spark, make_fleet: MakeFleet) -> None:
    table = daily_sales(shops=40, days=60).assign(kind=lambda frame: np.where(frame["price"] > 2, "b", "a"))
    table["price"] = table["price"].astype(str)
    table.loc[3, "price"] = "dear"
    twice = pd.concat([table, table.iloc[:2]], ignore_index=True)
    fleet = make_fleet(twice, horizon=7, features={"known_ahead": ["price", "kind"]})
    first = publish(spark, fleet)
    assert first.is_new
    rows = {
        "read": 2402,
        "valid": 2399,
        "quarantined": 3,
        "by_reason": {"duplicate": 2, "unparsable:price": 1},
    }
    assert first.record["rows"] == rows
    assert first.record["segments"] == 40
    assert first.recipe.categories == {"kind": ["a", "b"]}
    assert first.recipe.text_features == ["kind"]
    again = publish_features(fleet.lake, spark, fleet.settings)
    assert (again.is_new, again.version, again.digest) == (False, first.version, first.digest)
    assert current_recipe(fleet.lake, spark, fleet.settings) == first.recipe
    assert current_features(fleet.lake).profile == first.profile

    refused = fleet.lake.table(QUARANTINE).arrow().to_pandas()
    assert sorted(refused["__reason"]) == ["duplicate", "duplicate", "unparsable:price"]
    assert set(table.columns) < set(refused.columns)
    assert set(refused.loc[refused["__reason"] == "unparsable:price", "price"]) == {"dear"}
    segments = fleet.lake.table(SEGMENTS).arrow().to_pandas().set_index(KEY)
    assert set(segments.index) == {f"shop {number}" for number in range(1, 41)}
    assert segments["__open"].all()
    assert segments.loc["shop 1", "__labelled"] == 59

    features = fleet.lake.table(FEATURES)
    stored = features.arrow().to_pandas()
    assert len(stored) == 2399 + 40 * 7
    assert len(set(zip(stored[KEY], stored[PERIOD], strict=True))) == len(stored)
    assert (stored[BUCKET] == [bucket_of(key, first.buckets) for key in stored[KEY]]).all()
    files = features.files()
    assert len({file.split(f"{BUCKET}=")[1].split("/")[0] for file in files}) == len(files) > 10
    for file in files:
        part = pq.ParquetFile(file).read([KEY, PERIOD]).to_pandas()
        assert part.equals(part.sort_values([KEY, PERIOD]).reset_index(drop=True))


def dies_at_first(part: int, folders: Folders, **keys: Any) -> Iterator[dict[str, Any]]:
    """A worker's part of the work, which kills the worker after a first file, and is done when it is tried again."""
    from assets.features.settled import _settled_part

    context = TaskContext.get()
    lines = list(_settled_part(part, folders=folders, **keys))
    if context.attemptNumber() == 0:
        (Path(folders.features) / f"half-{context.taskAttemptId()}.parquet").write_bytes(b"PAR1 and no more")
        os.kill(os.getpid(), signal.SIGKILL)
    yield from lines


def test_a_worker_killed_while_it_writes_leaves_nothing_behind(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled_by_value(__name__)
    table = pd.concat([daily_sales(shops=5), daily_sales(shops=1)])  # with duplicates
    whole, fleet = make_fleet(table, horizon=7), make_fleet(table, horizon=7)
    wanted = publish(spark, whole)
    monkeypatch.setattr(settled, "_settled_part", dies_at_first)
    published = publish(spark, fleet)
    folder = Path(fleet.lake.table(FEATURES).uri)
    assert list(folder.rglob("half-*.parquet")), "the test must see workers die"
    assert published.record["rows"] == wanted.record["rows"]
    for name, order in ((FEATURES, [KEY, PERIOD]), (SEGMENTS, [KEY]), (QUARANTINE, [KEY, ROW])):
        there, here = (
            f.lake.table(name).arrow().to_pandas().sort_values(order, ignore_index=True) for f in (fleet, whole)
        )
        assert there.drop(columns="__file", errors="ignore").equals(here.drop(columns="__file", errors="ignore"))
    assert len(list(folder.rglob("part-*.parquet"))) == 2 * len(fleet.lake.table(FEATURES).files())
    assert not list(Path(fleet.lake.root).glob(f"{EXCHANGE}*"))


def test_other_lags_make_another_schema_and_earlier_versions_stay(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(daily_sales(), horizon=5)
    first = publish(spark, fleet)
    features = fleet.settings.features.model_copy(update={"lags": [6, 9]})
    second = publish(spark, fleet, fleet.settings.model_copy(update={"features": features}))
    assert second.is_new
    assert second.digest != first.digest
    assert second.buckets == first.buckets
    table = fleet.lake.table(FEATURES)
    lags = [
        [name for name in table.arrow(version=version).column_names if "@lag" in name]
        for version in (first.version, second.version)
    ]
    assert lags[1] == ["sold@lag_6", "sold@lag_9"]
    assert lags[0] == [name for name, _, _ in first.recipe.lagged]
    model = fleet.settings.model_copy(update={"features": features, "owner": "team:other"})
    assert not publish(spark, fleet, model).is_new


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_columns_of_any_name_in_every_role(spark: Spark, make_fleet: MakeFleet, suffix: str) -> None:
    names = {
        "shop": "sh.op `x`",
        "area": 'a "b"',
        "day": "the day, or so",
        "sold": "so;ld.€ {=}",
        "price": "pri'ce\\n",
        "seen": "$1 🍦",
    }
    table = daily_sales(shops=2).assign(area="x|y", seen=1.5).rename(columns=names)
    fleet = make_fleet(
        None, source={"path": f"t.{suffix}"}, segment=[names["shop"], names["area"]], time=names["day"],
        label=names["sold"], features={"known_ahead": names["price"], "past_only": names["seen"]}, horizon=4,
    )  # fmt: skip
    path = fleet.folder / f"t.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    published = publish(spark, fleet)
    stored = fleet.lake.table(FEATURES).arrow(version=published.version).to_pandas()
    assert set(published.recipe.features) < set(stored.columns)
    assert set(stored[KEY]) == {partition_key(["shop 1", "x|y"]), partition_key(["shop 2", "x|y"])}
    assert stored[names["sold"]].sum() == pytest.approx(table[names["sold"]].sum())
    assert len(stored) == len(table) + 2 * 4
