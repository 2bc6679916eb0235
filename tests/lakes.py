"""A small lake with features and a training, made once a test run, and copies of it to do things to."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from assets.features.publish import FeatureSet, current_features, current_recipe, publish_features
from assets.models.shard import BOOSTERS, boosters
from assets.models.store import Training, listing_of
from assets.models.train import train_fleet
from assets.raw.ingest import ingest
from assets.raw.recipe import Recipe
from resources.spark import Spark
from tests.cycle import HORIZON, House, house, minimal, sales

if TYPE_CHECKING:
    from lightgbm import Booster

GOOD = ["shop 0", "shop 1", "shop 2"]
SKIPPED = {"short": "too short", "constant": "constant label", "empty": "all labels null"}
CLOSED = "closed"
DAYS = 60


@dataclass(frozen=True)
class Trained:
    """A lake with features and one training of all segments."""

    home: House
    features: FeatureSet
    recipe: Recipe
    training: Training


def mixed_table() -> pd.DataFrame:
    """Three good shops (one with gaps), a closed one, one too short, one constant, one without a label."""
    frame = sales([*GOOD, CLOSED, *SKIPPED], DAYS)
    frame["weather"] = np.where(np.arange(len(frame)) % 7 < 3, "rain", "sun")
    frame["footfall"] = np.where(frame["sold"].isna(), np.nan, frame["price"] * 10)
    day = (frame["day"] - frame["day"].min()).dt.days
    shop = frame["shop"]
    frame.loc[shop == "constant", "sold"] = frame.loc[shop == "constant", "sold"].where(day >= DAYS, 7.0)
    frame.loc[shop == "empty", "sold"] = np.nan
    gone = (shop == CLOSED) & (day >= 50) | (shop == "short") & (day < 50) | (shop == "shop 2") & day.isin([11, 30, 57])
    return frame[~gone].reset_index(drop=True)


def mixed_keys() -> dict[str, Any]:
    """`fleet.yaml` for the mixed table: a text known ahead, a number of the past."""
    features = {**minimal()["features"], "known_ahead": ["price", "weather"], "past_only": ["footfall"]}
    return {"features": features}


def built(home: House) -> tuple[FeatureSet, Recipe]:
    """Raw and features of a house as its table and settings are now."""
    ingest(home.lake, home.spark, home.settings)
    publish_features(home.lake, home.spark, home.settings)
    return current_features(home.lake), current_recipe(home.lake, home.spark, home.settings)


def train(home: House, segments: list[str] | None = None, **options: Any) -> Trained:
    """Features and a training of a house as its table and settings are now."""
    features, recipe = built(home)
    training, _ = train_fleet(home.lake, home.spark, features, recipe, segments, **options)
    return Trained(home, features, recipe, training)


def again(made: Trained, segments: list[str] | None = None, **options: Any) -> Trained:
    """Another training of the same features and recipe."""
    home = made.home
    training, _ = train_fleet(home.lake, home.spark, made.features, made.recipe, segments, **options)
    return Trained(home, made.features, made.recipe, training)


def listed(made: Trained) -> dict[str, dict[str, Any]]:
    """The listing's rows by segment; each segment once."""
    rows = listing_of(made.home.lake, made.training).to_pylist()
    assert len({row["segment"] for row in rows}) == len(rows)
    return {row["segment"]: row for row in rows}


def loaded(made: Trained, fit: str) -> dict[str, Booster]:
    """Each segment's `served` or `judged` booster."""
    found = list(boosters(made.home.lake.root, listing_of(made.home.lake, made.training), fit))
    assert len({key for key, _ in found}) == len(found)
    return dict(found)


def packed_models(made: Trained, fit: str) -> dict[str, bytes]:
    """Each segment's packed model, letter by letter as it lies in the shard that the listing names."""
    found = {}
    for key, row in listed(made).items():
        if row["shard"]:
            rows = pq.read_table(f"{made.home.lake.root}/{row['shard']}").to_pylist()
            (found[key],) = [each[fit] for each in rows if each["segment"] == key]
    return found


def shard_files(home: House) -> set[str]:
    """Every file below the folder of shards, hidden ones too, relative to the lake."""
    root = home.folder / "lake"
    return {path.relative_to(root).as_posix() for path in (root / BOOSTERS).rglob("*") if path.is_file()}


def pickled_by_value(name: str) -> None:
    """Lets Spark workers, which cannot import test modules, run functions of the module of this name."""
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[name])


_made: dict[str, Trained] = {}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Trained:
    """The one lake; read only. (Several conftests import this fixture, so pytest would make it several times.)"""
    if not _made:
        home = house(tmp_path_factory.mktemp("trained"), spark, mixed_table(), **mixed_keys())
        _made["it"] = train(home)
    return _made["it"]


@pytest.fixture
def own(trained: Trained, tmp_path: Path) -> Trained:
    """A copy of the lake for one test."""
    shutil.copytree(trained.home.folder, tmp_path / "own")
    home = House(tmp_path / "own", trained.home.spark)
    return Trained(home, current_features(home.lake), trained.recipe, trained.training)


def slow_naive(
    periods: list[int],
    labels: list[float],
    targets: list[int],
    origins: list[int],
    season: int,
    otherwise: float,
) -> list[float]:
    """Seasonal naive as one would say it, a target at a time."""
    known = {period: label for period, label in zip(periods, labels, strict=True) if label == label}
    forecast = []
    for target, origin in zip(targets, origins, strict=True):
        before = [period for period in known if period <= origin]
        recent = [period for period in before if period > origin - season]
        same = target
        while same > origin:
            same -= season
        if same in known:
            forecast.append(known[same])
        elif before:
            forecast.append(float(np.mean([known[period] for period in sorted(recent or before)])))
        else:
            forecast.append(otherwise)
    return forecast


def feature_frame(made: Trained) -> pd.DataFrame:
    """The feature table in pandas, sorted by segment and period."""
    frame = made.home.lake.table("features").arrow(version=made.features.version).to_pandas()
    return frame.sort_values(["__segment", "__period"], ignore_index=True)


def matrix(frame: pd.DataFrame, recipe: Recipe) -> np.ndarray:
    """The models' inputs worked out again from the feature table."""
    columns = []
    for name in recipe.features:
        if name in recipe.text_features:
            places = {value: place for place, value in enumerate(recipe.categories[name.split("@")[0]])}
            columns.append(frame[name].map(places).astype(float))
        else:
            columns.append(frame[name].astype(float))
    return np.column_stack([column.to_numpy() for column in columns])


__all__ = ["CLOSED", "GOOD", "HORIZON", "SKIPPED", "Trained", "own", "trained"]
