"""Explanations: SHAP values worked out again by hand, a reason where there are none, and what changed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from dagster import AssetKey

from assets.evaluation.incumbent import Champion
from assets.explanations.explain import NO_MODEL, NO_ROWS, NO_TRAINING, ROWS, ROWS_OF_FLEET, SHOWN
from assets.explanations.publish import EXPLANATIONS, Explanations, publish_explanations
from assets.explanations.summary import changes_of, feature_table, segment_explanation, unexplained
from assets.features.publish import current_features
from assets.models.packing import model_text
from assets.models.store import WEIGHTS, listing_of
from resources.problems import InputError
from resources.spark import Spark
from resources.table import Table
from tests.cycle import House, house, sales
from tests.forecasts.test_by_fleet import alike_table
from tests.lakes import CLOSED, GOOD, SKIPPED, Trained, feature_frame, matrix, packed_models, train
from tests.orchestration.test_cli import fleet

TRAINED = [*GOOD, CLOSED]


def served_by(made: Trained, weights: dict[str, list[float]], published: str = "p1", **changes: Any) -> Champion:
    """A champion in which some segments are served by own model, fleet-wide one and median with given weights."""
    rows = listing_of(made.home.lake, made.training)
    listing = rows.to_pandas()
    listing[["chosen", *WEIGHTS]] = ["baseline", 0.0, 0.0, 0.0]
    for segment, given in weights.items():
        listing.loc[listing["segment"] == segment, ["chosen", *WEIGHTS]] = ["blend", *given]
    for column, by_segment in changes.items():
        for segment, value in by_segment.items():
            listing.loc[listing["segment"] == segment, column] = value
    tags = {"published": published, "training": made.training.id}
    return Champion(7, tags, pa.Table.from_pandas(listing, rows.schema, preserve_index=False))


def explain(made: Trained, champion: Champion) -> Explanations:
    home = made.home
    return publish_explanations(home.lake, home.spark, home.settings, made.features, champion)


def explained(made: Trained) -> pd.DataFrame:
    rows = made.home.lake.table(EXPLANATIONS).arrow().to_pandas()
    return rows.sort_values(["segment", "rank"], ignore_index=True)


def by_hand(made: Trained, segment: str) -> pd.Series:
    """Each feature's share, from the feature table and the model's whole text; the largest first."""
    frame = feature_frame(made)
    known = frame[(frame["__segment"] == segment) & frame["sold"].notna()].index[-ROWS:]
    booster = lgb.Booster(model_str=model_text(packed_models(made, "served")[segment]))
    values = booster.predict(matrix(frame, made.recipe)[known], pred_contrib=True)
    moved = np.abs(values[:, :-1]).mean(axis=0)
    return pd.Series(moved / moved.sum(), made.recipe.features).sort_values(ascending=False)


OWN = {segment: [0.6, 0.0, 0.2] for segment in TRAINED}


def test_each_segments_own_model_is_explained_as_by_hand(own: Trained) -> None:
    record = explain(own, served_by(own, OWN)).record
    rows = explained(own)
    for segment in TRAINED:
        mine, wanted = rows[rows["segment"] == segment], by_hand(own, segment).head(SHOWN)
        wanted = wanted[wanted > 0]
        assert mine["feature"].tolist() == wanted.index.tolist()
        np.testing.assert_allclose(mine["share"], wanted, rtol=1e-9)
        assert mine["rank"].tolist() == list(range(1, len(mine) + 1))
        assert set(mine["source"]) == {"segment"}
        assert set(mine["weight"]) == {0.6}
        assert set(mine["rows"]) == {min(ROWS, 60 - {"shop 2": 3, CLOSED: 10}.get(segment, 0))}
        # dearer sells less, which is how the table was made
        assert mine.set_index("feature").loc["price", "direction"] == -1
        assert mine["feature"].iloc[0] == "price"
    text = rows[rows["feature"] == "weather"]
    assert (text["direction"] == 0).all()
    assert (record["segments"], record["by_segment"], record["by_fleet"]) == (7, 4, 0)
    means = pd.concat([by_hand(own, segment) for segment in TRAINED], axis=1).mean(axis=1)
    said = {each["feature"]: each["mean"] for each in record["features"]}
    assert said == pytest.approx(means.to_dict(), abs=1e-6)
    assert record["features"][0]["feature"] == "price"
    assert record["features"][0]["first"] == 4


def test_who_has_none_says_why(own: Trained) -> None:
    weights = {**OWN, "shop 1": [0.0, 0.0, 0.4]}
    explain(own, served_by(own, weights))
    rows = explained(own)
    reasons = rows[rows["feature"].isna()].set_index("segment")["reason"].to_dict()
    assert reasons == dict.fromkeys([*SKIPPED, "shop 1"], NO_MODEL)
    assert rows[rows["feature"].notna()]["reason"].isna().all()
    assert unexplained(own.home.lake, 0).values.tolist() == [[NO_MODEL, 4]]


def test_a_model_that_cannot_be_read_stops_no_other(own: Trained) -> None:
    digests = {"shop 1": "0" * 16}
    lost = {"shop 2": "another training"}
    champion = served_by(own, OWN, served_digest=digests, training=lost)
    champion = dataclasses.replace(
        champion, listing=pa.concat_tables([champion.listing, _renamed(champion.listing, "shop 0", "gone")])
    )
    explain(own, champion)
    rows = explained(own)
    reasons = rows[rows["feature"].isna()].set_index("segment")["reason"]
    assert "is not the one that was fitted" in reasons["shop 1"]
    assert reasons["shop 2"] == NO_TRAINING
    assert reasons["gone"] == NO_ROWS
    assert set(rows[rows["feature"].notna()]["segment"]) == {"shop 0", CLOSED}


def _renamed(listing: pa.Table, segment: str, name: str) -> pa.Table:
    frame = listing.to_pandas()
    row = frame[frame["segment"] == segment].assign(segment=name)
    return pa.Table.from_pandas(row, listing.schema, preserve_index=False)


def test_the_same_champion_is_explained_once_and_a_kill_leaves_the_older_table(
    own: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = explain(own, served_by(own, OWN))
    before = explained(own)
    assert first.is_new
    assert not explain(own, served_by(own, OWN)).is_new
    other, real = served_by(own, {"shop 0": [1.0, 0.0, 0.0]}, "p2"), Table.commit

    def dies(table: Table, *given: Any, **named: Any) -> int:
        if table.uri.endswith(f"/{EXPLANATIONS}"):
            raise RuntimeError("died")
        return real(table, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Table, "commit", dies)
        with pytest.raises(RuntimeError):
            explain(own, other)
    pd.testing.assert_frame_equal(explained(own), before)
    folder = own.home.folder / "lake" / EXPLANATIONS
    assert len(list(folder.glob("data-*"))) == 1
    again = explain(own, other)
    assert (again.version, again.is_new) == (1, True)
    assert explained(own)["feature"].notna().sum() == (before["segment"] == "shop 0").sum()


def test_the_same_rows_and_models_give_the_same_table(own: Trained) -> None:
    explain(own, served_by(own, OWN))
    before = explained(own)
    shutil.rmtree(own.home.folder / "lake" / EXPLANATIONS)
    explain(own, served_by(own, OWN))
    pd.testing.assert_frame_equal(explained(own), before)


def test_what_changed_since_the_champion_before(own: Trained) -> None:
    only = explain(own, served_by(own, OWN))
    assert changes_of(own.home.lake, only) is None
    # the model of shop 1 is now that of shop 0 in another's place: what is compared are both tables
    second = explain(own, dataclasses.replace(served_by(own, {"shop 0": [1.0, 0, 0]}, "p2"), version=8))
    found = changes_of(own.home.lake, second)
    assert found is not None
    assert (found.since, found.compared, found.first_changed) == (7, 1, 0)
    was, now = feature_table(only.record), feature_table(second.record)
    moved = found.moved.set_index("feature")
    assert moved["now"]["price"] == pytest.approx(now.set_index("feature")["mean share"]["price"])
    assert moved["mean share before"]["price"] == pytest.approx(was.set_index("feature")["mean share"]["price"])
    assert (moved["change"].abs().diff().dropna() <= 1e-12).all()
    _swap_first_features(own)
    third = explain(own, dataclasses.replace(served_by(own, OWN, "p3"), version=9))
    again = changes_of(own.home.lake, third)
    assert again is not None
    assert (again.since, again.compared, again.first_changed) == (8, 1, 1)


def _swap_first_features(own: Trained) -> None:
    """Gives the last explanations other first features, under the same record."""
    import pyarrow.parquet as pq

    table = own.home.lake.table(EXPLANATIONS)
    rows = table.arrow().to_pandas().assign(feature="other")
    with table.staging() as staging:
        Path(staging.uri).mkdir()
        pq.write_table(pa.Table.from_pandas(rows, table.schema(), preserve_index=False), f"{staging.uri}/r.parquet")
        table.commit(staging, table.schema(), table.record())


def test_without_a_part_of_its_own_a_segment_is_explained_by_the_fleet_wide_model(tmp_path: Path, spark: Spark) -> None:
    made = train(house(tmp_path / "h", spark, alike_table(), fleet_model={"enabled": True}))
    weights = {"shop 0": [0.2, 0.8, 0.0], "shop 1": [0.0, 0.6, 0.4], "short": [0.0, 1.0, 0.0]}
    record = explain(made, served_by(made, weights)).record
    rows = explained(made)
    source = rows.drop_duplicates("segment").set_index("segment")["source"]
    assert source[list(weights)].tolist() == ["segment", "fleet", "fleet"]
    assert (record["by_segment"], record["by_fleet"]) == (1, 2)
    by_fleet = rows[rows["source"] == "fleet"]
    assert set(by_fleet["rows"]) == {ROWS_OF_FLEET}
    assert set(by_fleet["feature"]) <= {*made.recipe.features, "shop"}
    assert by_fleet[by_fleet["rank"] == 1]["feature"].tolist() == ["price", "price"]
    assert by_fleet.groupby("segment")["share"].sum().between(0.5, 1 + 1e-9).all()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    """A fleet of two weeks, the second better than the first."""
    made = house(tmp_path_factory.mktemp("explained"), spark, sales(3, 60, shift=(60, 3.0)))
    made.run(raise_on_error=True)
    made.bring(sales(3, 80, shift=(60, 3.0)))
    made.run(raise_on_error=True)
    return made


def test_the_weekly_cycle_explains_the_champion_and_what_changed(home: House) -> None:
    event = home.instance.get_latest_materialization_event(AssetKey(["tiny", EXPLANATIONS]))
    assert event is not None
    assert event.asset_materialization is not None
    said = event.asset_materialization.metadata
    assert said["champion version"].value == 2
    assert said["changed since champion version"].value == 1
    assert said["explained by their own model"].value == 3
    assert said["segments compared"].value == 3
    assert said["top features"].value.records[0].data["feature"] == "price"
    assert "data:image/png" in str(said["shares over segments"].value)
    assert home.lake.table(EXPLANATIONS).version() == 1


def test_the_command_explains_a_segment_for_machines_and_for_people(home: House) -> None:
    told = fleet(home, "explain", "shop 1", "--json")
    assert told.exit_code == 0, told.stderr
    found = json.loads(told.stdout)
    assert found == segment_explanation(home.lake, "tiny", "shop 1")
    assert (found["version"], found["source"], found["weight"], found["reason"]) == (2, "segment", 1.0, None)
    first = found["features"][0]
    assert (first["rank"], first["feature"], first["direction"]) == (1, "price", "lowers")
    shown = fleet(home, "explain", "shop 1")
    assert shown.exit_code == 0, shown.stderr
    assert "its own model, which has 100% of the forecast" in shown.stdout
    assert f"{first['share']:.1%}  lowers" in shown.stdout
    wrong = fleet(home, "explain", "shop 11")
    assert wrong.exit_code == 2
    assert "is no segment of champion 2 -> did you mean" in " ".join(wrong.stderr.split())


def test_before_the_first_champion_there_is_nothing_to_explain(tmp_path: Path, spark: Spark) -> None:
    fresh = house(tmp_path / "fresh", spark)
    with pytest.raises(InputError, match="has no explanations yet -> run the weekly cycle: fleet run"):
        segment_explanation(fresh.lake, "tiny", "shop 0")


def test_a_fleet_that_nothing_is_served_of_is_not_explained(own: Trained) -> None:
    from dagster import materialize

    from assets.explanations.asset import explanations_asset

    home = own.home
    resources = {"lake": home.lake, "spark": home.spark, "mlflow": home.mlflow}
    result = materialize([explanations_asset(home.settings)], resources=resources)
    assert result.success
    (event,) = result.get_asset_materialization_events()
    assert "the baseline serves" in str(event.materialization.metadata["champion version"].value)
    assert not home.lake.table(EXPLANATIONS).exists()
    assert current_features(home.lake).version == own.features.version
