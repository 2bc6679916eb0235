"""Training of a fleet by Spark workers: committed once, complete, repeatable, any set of segments."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from assets.models import train as train_module
from assets.models.shard import BucketTask, train_bucket
from assets.models.store import MODELS, boosters, latest_training, listing_of, shards_by_bucket, trainings
from assets.models.train import train_fleet
from assets.raw.recipe import Recipe
from resources.problems import InputError
from resources.spark import Spark
from tests.cycle import HORIZON, house
from tests.lakes import CLOSED, GOOD, SKIPPED, Trained, mixed_keys, mixed_table, train


def listing(made: Trained) -> dict[str, dict[str, Any]]:
    rows = listing_of(made.home.lake, made.training).to_pylist()
    assert len({row["segment"] for row in rows}) == len(rows)
    return {row["segment"]: row for row in rows}


def models(made: Trained, column: str) -> dict[str, bytes]:
    """Each segment's packed model, as it lies in the lake."""
    rows = made.home.lake.table(MODELS).arrow(columns=["segment", column, "training"]).to_pylist()
    return {row["segment"]: row[column] for row in rows if row["training"] == made.training.id}


def test_every_segment_is_listed_once_with_what_became_of_it(trained: Trained) -> None:
    rows = listing(trained)
    assert set(rows) == {*GOOD, CLOSED, *SKIPPED}
    assert {key: rows[key]["reason"] for key in SKIPPED} == SKIPPED
    assert all(rows[key]["status"] == "trained" for key in (*GOOD, CLOSED))
    assert trained.training.record["counts"] == {"trained": 4, "skipped": 3}
    assert trained.training.record["reasons"] == dict.fromkeys(SKIPPED.values(), 1)
    assert trained.training.covers_all


def test_cut_offs_are_the_fleets(trained: Trained) -> None:
    last = trained.features.profile.last_period
    for row in listing(trained).values():
        if row["status"] == "trained":
            assert (row["trained_through"], row["judged_through"]) == (last, last - HORIZON)


def test_models_come_back_from_their_shards(trained: Trained) -> None:
    rows = listing(trained)
    parts = shards_by_bucket(trained.home.lake, listing_of(trained.home.lake, trained.training))
    loaded = {key: booster for own in parts.values() for key, booster in boosters(own, "served")}
    assert set(loaded) == {*GOOD, CLOSED}
    assert {key: booster.num_trees() for key, booster in loaded.items()} == {key: rows[key]["trees"] for key in loaded}


def test_only_the_wanted_segments_of_a_shard_are_loaded(trained: Trained) -> None:
    parts = shards_by_bucket(trained.home.lake, listing_of(trained.home.lake, trained.training))
    some = [dataclasses.replace(part, segments=part.segments & {"shop 1"}) for own in parts.values() for part in own]
    assert [key for key, _ in boosters(some, "judged")] == ["shop 1"]


def test_a_lake_that_was_moved_still_finds_its_models(own: Trained) -> None:
    parts = shards_by_bucket(own.home.lake, listing_of(own.home.lake, own.training))
    files = [part.file for each in parts.values() for part in each]
    assert files
    assert all(file.startswith(own.home.settings.lake) for file in files)


def test_the_second_training_of_the_same_is_not_new(own: Trained) -> None:
    before = own.home.lake.table(MODELS).version()
    again, is_new = train_fleet(own.home.lake, own.home.spark, own.features, own.recipe)
    assert not is_new
    assert again.id == own.training.id
    assert own.home.lake.table(MODELS).version() == before


def test_a_scattered_set_trains_just_those(own: Trained) -> None:
    wanted = ["shop 2", "constant", "shop 0"]
    training, is_new = train_fleet(own.home.lake, own.home.spark, own.features, own.recipe, wanted)
    assert is_new
    assert not training.covers_all
    made = dataclasses.replace(own, training=training)
    assert set(listing(made)) == set(wanted)
    assert latest_training(own.home.lake) == training
    assert models(made, "served")["shop 0"] == models(own, "served")["shop 0"]


def test_a_segment_that_is_not_there_is_refused_before_anything_is_written(own: Trained) -> None:
    files = sorted(path for path in own.home.folder.rglob("*"))
    with pytest.raises(InputError, match="no such segment: 'nobody'"):
        train_fleet(own.home.lake, own.home.spark, own.features, own.recipe, ["shop 0", "nobody"])
    assert sorted(path for path in own.home.folder.rglob("*")) == files


def test_going_back_to_a_recipe_makes_its_training_the_latest_again(own: Trained) -> None:
    other = own.recipe.model_copy(update={"model": {**own.recipe.model, "rounds": 2}})
    second, _ = train_fleet(own.home.lake, own.home.spark, own.features, other)
    assert latest_training(own.home.lake) == second
    back, is_new = train_fleet(own.home.lake, own.home.spark, own.features, own.recipe)
    assert not is_new
    assert back.id == own.training.id
    assert latest_training(own.home.lake) == own.training
    assert set(trainings(own.home.lake)) == {own.training.id, second.id}
    assert len(listing(own)) == 7


def test_what_happened_after_the_cut_off_is_not_in_the_twins(trained: Trained, tmp_path: Path, spark: Spark) -> None:
    """The same table gives the same bytes; other labels in the holdout give the same twins and the same choice."""
    same = train(house(tmp_path / "same", spark, mixed_table(), **mixed_keys()))
    table = mixed_table()
    late = table["day"] > table["day"].max() - pd.Timedelta(days=2 * HORIZON)
    table.loc[late, ["sold", "footfall"]] += 333.0
    other = train(house(tmp_path / "other", spark, table, **mixed_keys()))
    assert same.training.id == trained.training.id
    for column in ("served", "judged"):
        assert models(same, column) == models(trained, column)
    assert models(other, "judged") == models(trained, "judged")
    assert {k: r["chosen"] for k, r in listing(other).items()} == {k: r["chosen"] for k, r in listing(trained).items()}
    changed = {key for key, model in models(other, "served").items() if model != models(trained, "served")[key]}
    assert changed == set(GOOD)


def repeated(task: BucketTask, recipe: Recipe, last: int, folder: str) -> Iterator[dict[str, Any]]:
    """A task that dies after its shard is written, and is done again, as Spark does."""
    assert list(train_bucket(task, recipe, last, folder))
    yield from train_bucket(task, recipe, last, folder)


def test_a_task_done_twice_leaves_nothing_double(own: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(train_module, "train_bucket", repeated)
    shutil.rmtree(own.home.folder / "lake" / MODELS)
    training, _ = train_fleet(own.home.lake, own.home.spark, own.features, own.recipe)
    made = dataclasses.replace(own, training=training)
    assert len(listing(made)) == 7
    written = list((own.home.folder / "lake" / MODELS).rglob("*.parquet"))
    committed = own.home.lake.table(MODELS).files()
    assert len(written) == 2 * len(committed)
    assert models(made, "served") == models(own, "served")


def broken(*_: object, **__: object) -> Iterator[dict[str, Any]]:
    raise OSError("the disk is gone")
    yield {}


def test_a_training_that_dies_leaves_the_last_one(own: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    before = sorted((own.home.folder / "lake" / MODELS).rglob("*"))
    monkeypatch.setattr(train_module, "train_bucket", broken)
    other = own.recipe.model_copy(update={"metric": "mae"})
    with pytest.raises(Exception, match="the disk is gone"):
        train_fleet(own.home.lake, own.home.spark, own.features, other)
    assert sorted((own.home.folder / "lake" / MODELS).rglob("*")) == before
    assert latest_training(own.home.lake) == own.training


def test_listing_types_do_not_depend_on_what_happened(own: Trained) -> None:
    training, _ = train_fleet(own.home.lake, own.home.spark, own.features, own.recipe, ["constant"])
    rows = listing_of(own.home.lake, training)
    assert rows.schema == listing_of(own.home.lake, own.training).schema
    assert rows["judged_through"].type == pa.int64()
