"""Training of a fleet by Spark workers: committed once, complete, repeatable, any set of segments."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from assets.models import train as train_module
from assets.models.line import FOLD_BLENDS
from assets.models.shard import BOOSTERS, boosters
from assets.models.store import MODELS, latest_training, listing_of, trainings
from assets.models.train import train_fleet
from assets.models.worker import BucketTask, Plan, train_bucket
from resources.problems import InputError
from resources.spark import Spark
from tests.cycle import HORIZON, House, house
from tests.lakes import (
    CLOSED,
    GOOD,
    SKIPPED,
    Trained,
    again,
    listed,
    loaded,
    mixed_keys,
    mixed_table,
    packed_models,
    pickled_by_value,
    shard_files,
    train,
)


def test_every_segment_is_listed_once_with_what_became_of_it(trained: Trained) -> None:
    rows = listed(trained)
    assert set(rows) == {*GOOD, CLOSED, *SKIPPED}
    assert {key: rows[key]["reason"] for key in SKIPPED} == SKIPPED
    assert all(rows[key]["status"] == "trained" for key in (*GOOD, CLOSED))
    assert trained.training.record["counts"] == {"trained": 4, "skipped": 3}
    assert trained.training.record["reasons"] == dict.fromkeys(SKIPPED.values(), 1)
    assert trained.training.covers_all


def test_cut_offs_are_the_fleets(trained: Trained) -> None:
    last = trained.features.profile.last_period
    for row in listed(trained).values():
        if row["status"] == "trained":
            assert (row["trained_through"], row["judged_through"]) == (last, last - HORIZON)


def test_models_come_back_from_their_shards(trained: Trained) -> None:
    rows = listed(trained)
    for fit in ("served", "judged"):
        models = loaded(trained, fit)
        assert set(models) == {*GOOD, CLOSED}
        assert {key: booster.num_trees() for key, booster in models.items()} == {
            key: rows[key]["trees"] for key in models
        }
    assert {rows[key]["shard"] for key in SKIPPED} == {None}


def test_every_shard_is_named_by_the_listing_and_the_table_holds_no_model(trained: Trained) -> None:
    assert shard_files(trained.home) == {row["shard"] for row in listed(trained).values() if row["shard"]}
    binary = {field.name for field in trained.home.lake.table(MODELS).schema() if "binary" in str(field.type)}
    assert binary == {FOLD_BLENDS}


def test_only_the_wanted_segments_of_a_shard_are_loaded(trained: Trained) -> None:
    listing = listing_of(trained.home.lake, trained.training)
    some = listing.filter(pc.equal(listing["segment"], "shop 1"))
    assert [key for key, _ in boosters(trained.home.lake.root, some, "judged")] == ["shop 1"]


def test_a_lake_that_was_moved_still_finds_its_packed_models(own: Trained, tmp_path: Path) -> None:
    before = {key: booster.model_to_string() for key, booster in loaded(own, "served").items()}
    shutil.move(own.home.folder, tmp_path / "moved")
    moved = dataclasses.replace(own, home=House(tmp_path / "moved", own.home.spark))
    assert {key: booster.model_to_string() for key, booster in loaded(moved, "served").items()} == before
    assert set(before) == {*GOOD, CLOSED}


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
    assert set(listed(made)) == set(wanted)
    assert latest_training(own.home.lake) == training
    assert packed_models(made, "served")["shop 0"] == packed_models(own, "served")["shop 0"]


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
    assert len(listed(own)) == 7


def test_what_happened_after_the_cut_off_is_not_in_the_twins(trained: Trained, tmp_path: Path, spark: Spark) -> None:
    """The same table gives the same bytes; other labels in the holdout give the same twins and the same choice."""
    same = train(house(tmp_path / "same", spark, mixed_table(), **mixed_keys()))
    table = mixed_table()
    late = table["day"] > table["day"].max() - pd.Timedelta(days=2 * HORIZON)
    table.loc[late, ["sold", "footfall"]] += 333.0
    other = train(house(tmp_path / "other", spark, table, **mixed_keys()))
    assert same.training.id == trained.training.id
    for column in ("served", "judged"):
        assert packed_models(same, column) == packed_models(trained, column)
    assert packed_models(other, "judged") == packed_models(trained, "judged")
    assert {k: r["chosen"] for k, r in listed(other).items()} == {k: r["chosen"] for k, r in listed(trained).items()}
    changed = {
        key for key, model in packed_models(other, "served").items() if model != packed_models(trained, "served")[key]
    }
    assert changed == set(GOOD)


def repeated(task: BucketTask, plan: Plan) -> Iterator[dict[str, Any]]:
    """A task that dies after its shards are written, and is done again, as Spark does."""
    assert list(train_bucket(task, plan))
    yield from train_bucket(task, plan)


@pytest.mark.parametrize("anew", [False, True])
def test_a_task_done_twice_leaves_nothing_double(own: Trained, monkeypatch: pytest.MonkeyPatch, anew: bool) -> None:
    pickled_by_value(__name__)
    before, shards = packed_models(own, "served"), shard_files(own.home)
    monkeypatch.setattr(train_module, "train_bucket", repeated)
    shutil.rmtree(own.home.folder / "lake" / MODELS)
    shutil.rmtree(own.home.folder / "lake" / BOOSTERS)
    made = again(own, anew=anew)
    assert len(listed(made)) == 7
    assert packed_models(made, "served") == before
    assert len(shard_files(own.home)) == len(shards) * (2 if anew else 1)


def broken(*_: object, **__: object) -> Iterator[dict[str, Any]]:
    raise OSError("the disk is gone")
    yield {}


def test_a_training_that_dies_leaves_the_last_one(own: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled_by_value(__name__)
    before, shards = sorted((own.home.folder / "lake" / MODELS).rglob("*")), shard_files(own.home)
    monkeypatch.setattr(train_module, "train_bucket", broken)
    other = own.recipe.model_copy(update={"metric": "mae"})
    with pytest.raises(Exception, match="the disk is gone"):
        train_fleet(own.home.lake, own.home.spark, own.features, other)
    assert sorted((own.home.folder / "lake" / MODELS).rglob("*")) == before
    assert shard_files(own.home) == shards
    assert latest_training(own.home.lake) == own.training


def test_listing_types_do_not_depend_on_what_happened(own: Trained) -> None:
    training, _ = train_fleet(own.home.lake, own.home.spark, own.features, own.recipe, ["constant"])
    rows = listing_of(own.home.lake, training)
    assert rows.schema == listing_of(own.home.lake, own.training).schema
    assert rows["judged_through"].type == pa.int64()
