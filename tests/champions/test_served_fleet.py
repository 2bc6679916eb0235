"""What a registered champion answers, loaded as MLflow loads it: what batch forecasts say, or what is wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException

from assets.champions.served_fleet import ServedFleet
from assets.champions.served_listing import Published
from assets.champions.serving.answer import answered
from assets.champions.serving.refusal import LostModelsError, NotServableError
from assets.features.publish import current_features, publish_features
from assets.forecasts.brought import score_brought
from assets.forecasts.publish import publish_forecasts
from assets.raw.ingest import ingest
from resources.problems import InputError
from tests.cycle import flats
from tests.hostile import HOSTILE
from tests.lakes import built
from tests.served import KEY, QUANTILES, Served, champion_model, hostile_keys, hostile_sales

ASKED = [*KEY, "day"]


@pytest.fixture(scope="module")
def model(served: Served) -> Any:
    return champion_model(served)


def of_lake(served: Served) -> ServedFleet:
    """The champion's fleet in this lake, which may be a copy."""
    tags = served.champion.tags
    return ServedFleet(Published(served.lake.root, tags["published"], tags["training"]))


def refused(model: Any, rows: pd.DataFrame) -> str:
    with pytest.raises(MlflowException) as error:
        model.predict(rows)
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"
    assert error.value.get_http_status_code() == 400
    return error.value.message


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    np.testing.assert_allclose(found["forecast"], wanted["forecast"], rtol=1e-9)
    assert found["model"].tolist() == wanted["model"].tolist()
    for name in QUANTILES:
        if name in wanted:
            np.testing.assert_allclose(found[name].astype(float), wanted[name], rtol=1e-9)


def test_every_row_of_the_horizon_is_answered_as_the_batch_forecast_is(model: Any, served: Served) -> None:
    wanted = served.forecasts.sample(frac=1, random_state=0)
    assert set(wanted["model"]) == {"segment", "fleet", "baseline"}
    assert set(HOSTILE) < set(wanted["shop"])
    found = model.predict(wanted[ASKED])
    same(found, wanted)
    assert found.columns.tolist() == ["forecast", "model", "version", *QUANTILES]
    assert (found["p05"] < found["forecast"]).mean() > 0.9
    assert set(found["version"]) == {served.champion.version}
    assert len(found) == len(wanted) == 4 * (len(HOSTILE) + 1)


def test_what_a_row_brings_stands_in_for_the_committed_value(model: Any, served: Served, tmp_path: Path) -> None:
    """As `fleet score` forecasts the same rows."""
    home = served.home
    asked = served.forecasts[served.forecasts["model"] != "baseline"].head(40)[ASKED].reset_index(drop=True)
    asked["price"] = 1.0 + np.arange(len(asked)) % 5
    asked["weather"], asked["open"] = "sun", False
    asked.to_parquet(tmp_path / "rows.parquet")
    score_brought(
        home.lake, home.spark, home.settings, served.champion, str(tmp_path / "rows.parquet"), str(tmp_path / "out.csv")
    )
    wanted = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    found = model.predict(asked)
    same(found, wanted)
    assert not np.allclose(found["forecast"], model.predict(asked[ASKED])["forecast"])


def test_what_a_row_leaves_empty_stays_as_it_is_committed(model: Any, served: Served) -> None:
    asked = served.forecasts[ASKED].assign(price=np.nan, weather=None, open=None, footfall=3.0, sold=1.0)
    same(model.predict(asked), served.forecasts)


def test_times_of_the_past_are_answered_from_their_committed_rows(model: Any, served: Served) -> None:
    features = served.lake.table("features").arrow().to_pandas()
    rows = features[(features["__time"] == "2024-02-10") & features["shop"].isin(["a|b", "00", "closed"])]
    asked = rows[[*KEY]].assign(day=rows["__time"])
    found = model.predict(asked)
    assert np.isfinite(found["forecast"]).all()
    assert len(found) == 3


@pytest.mark.parametrize(
    "as_sent",
    [
        lambda day: day.dt.strftime("%Y-%m-%d"),
        lambda day: day.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        lambda day: day.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
        lambda day: day.dt.date,
    ],
    ids=["text", "iso", "zone", "date"],
)
def test_times_may_be_written_in_several_ways(model: Any, served: Served, as_sent: Any) -> None:
    asked = served.forecasts.head(20)
    same(model.predict(asked[KEY].assign(day=as_sent(asked["day"]))), asked)


def test_every_mistake_is_told_with_its_row_and_column(model: Any) -> None:
    rows = pd.DataFrame({
        "shop": ["a|b", "nobody", None, "00", "a b", "é", ["x"]],
        "store": [1, 0, 1, "one", 1.5, True, 2],
        "day": ["2024-03-01", "2024-03-01", "2024-03-01", "1999-01-01", "3.4.2024", 20240301, "2024-03-01T05:00"],
        "price": [1.0, "dear", 2, 3, 4, 5, float("inf")],
        "open": ["yes", "no", "perhaps", True, 0, 1, 2],
        "weather": ["sun"] * 7,
    })  # fmt: skip
    told = refused(model, rows)
    for mistake in (
        "row 2, segment shop='nobody', store='0': is none of the fleet's",
        "row 3, column 'shop': is empty",
        "row 4, column 'store': 'one' is no number",
        "row 5, column 'store': 1.5 is no whole number",
        "row 6, column 'store': True is no whole number",
        "row 7, column 'shop': ['x'] is no single value",
        "row 4, column 'day': '1999-01-01' lies outside of history and horizon",
        "row 5, column 'day': '3.4.2024' is no time such as 2024-05-31",
        "row 6, column 'day': 20240301 is no time",
        "row 7, column 'day': '2024-03-01T05:00' is no time of the calendar 'D'",
        "row 2, column 'price': 'dear' is no number",
        "row 7, column 'price': is infinite",
        "row 3, column 'open': 'perhaps' is neither true nor false",
        "row 7, column 'open': 2 is neither true nor false",
    ):
        assert mistake in told, mistake


def test_columns_that_are_missing_or_mistyped_are_named(model: Any, served: Served) -> None:
    told = refused(model, pd.DataFrame({"shop": ["a"], "prise": [1.0]}))
    assert "column 'store': is missing" in told
    assert "column 'day': is missing" in told
    assert "column 'prise': is none of the fleet's -> did you mean 'price'?" in told
    asked = served.forecasts.head(1)[ASKED]
    assert "'sold@lag_4': is computed from the committed history" in refused(model, asked.assign(**{"sold@lag_4": 1.0}))


def test_a_time_that_a_segment_has_no_row_of_is_told(model: Any, served: Served) -> None:
    closed = served.champion.listing.to_pandas()["segment"]
    key = next(key for key in closed if key.startswith("closed|"))
    rows = pd.DataFrame(
        {"shop": ["closed"] * 3, "store": [int(key[-1])] * 3, "day": ["2024-03-01", "2024-03-02", "2024-01-05"]}
    )
    assert f"row 1 (and 1 more), segment '{key}': has no committed row at that day" in refused(model, rows)


def test_many_mistakes_are_told_in_part(model: Any) -> None:
    rows = pd.DataFrame({"shop": [f"nobody {n}" for n in range(1000)], "store": 1, "day": "2024-03-01"})
    told = refused(model, rows)
    assert "980 more: of such mistakes" in told
    assert len(told) < 5000


def test_a_number_stands_for_the_one_text_that_says_it(model: Any, served: Served) -> None:
    """As readers of CSV files give it."""
    row = served.forecasts[served.forecasts["shop"] == "1.0"].head(1)
    asked = row[ASKED].assign(shop=1.0)
    same(model.predict(asked), row)
    assert "0 may be any of '0', '00': send text" in refused(model, asked.assign(shop=0))


def test_half_a_character_is_no_text(model: Any) -> None:
    """JSON can write it."""
    rows = pd.DataFrame({"shop": ["\ud800", "a b"] * 50, "store": 1, "day": "2024-03-01", "weather": "\udfff"})
    told = refused(model, rows)
    assert r"row 1 (and 49 more), column 'shop': '\ud800' is no text" in told
    assert r"column 'weather': '\udfff' is no text" in told


def test_no_rows_get_no_answer(model: Any, served: Served) -> None:
    assert len(model.predict(served.forecasts.head(0)[ASKED])) == 0


def test_tables_without_time_are_scored_by_what_rows_bring(timeless: Served, tmp_path: Path) -> None:
    """As `fleet score` does."""
    model, home = champion_model(timeless), timeless.home
    names = ["plain", "Plain", "a|b", "100%", "007", "tiny"]
    rows = flats(names, 5, seed=9).drop(columns="rent").sample(frac=1, random_state=3, ignore_index=True)
    rows.to_parquet(tmp_path / "rows.parquet")
    score_brought(
        home.lake,
        home.spark,
        home.settings,
        timeless.champion,
        str(tmp_path / "rows.parquet"),
        str(tmp_path / "o.parquet"),
    )
    wanted = pd.read_parquet(tmp_path / "o.parquet")
    assert set(wanted["model"]) == {"segment", "fleet", "baseline"}
    same(model.predict(rows), wanted)
    told = refused(model, rows.drop(columns=["size", "kind"]))
    assert "column 'size': is missing" in told
    assert "column 'kind': is missing" in told
    told = refused(model, rows.head(2).assign(size=["large", 3.0], district=["plain", "nowhere"]))
    assert "row 1, column 'size': 'large' is no number" in told
    assert "row 2, segment district='nowhere': is none of the fleet's" in told


def test_a_lost_or_corrupt_model_is_no_answer_and_is_named(own_served: Served) -> None:
    listing = own_served.champion.listing.to_pandas()
    row = listing[listing["chosen"] == "segment"].iloc[0]
    values = own_served.forecasts
    file = Path(own_served.lake.path(row["shard"]))
    whole = file.read_bytes()
    key = row["segment"]
    view = of_lake(own_served).view()
    place = view.segments.keys.places([key])[0]
    shop, store = view.segments.table["shop"][place].as_py(), view.segments.table["store"][place].as_py()
    asked = values[(values["shop"] == shop) & (values["store"] == store)]
    assert len(asked) == 4
    same(answered(view, 1, asked[ASKED]), asked)
    for content in (None, b"", whole[: len(whole) // 2], whole.replace(b"PAR1", b"PAR2")):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(LostModelsError, match="file of models") as lost:
            answered(of_lake(own_served).view(), 1, asked[ASKED])
        assert row["shard"] in str(lost.value)
        assert repr(key) in str(lost.value)


def test_another_segments_model_never_answers(own_served: Served) -> None:
    """Shards whose models lie a row further: each is whole and can be read, and is not the segment's."""
    asked = own_served.forecasts[own_served.forecasts["model"] == "segment"]
    for shard in own_served.champion.listing["shard"].drop_null().unique().to_pylist():
        rows = pq.read_table(own_served.lake.path(shard))
        served_by = rows["served"].to_pylist()
        moved = pa.array([*served_by[1:], served_by[0][:-1] + b"x"], pa.binary())
        at = rows.schema.get_field_index("served")
        pq.write_table(rows.set_column(at, rows.schema.field(at), moved), own_served.lake.path(shard))
    with pytest.raises(LostModelsError) as lost:
        answered(of_lake(own_served).view(), 1, asked[ASKED])
    assert str(lost.value).count("is not the one that was fitted") == asked[KEY].drop_duplicates().shape[0]


def test_a_lost_fleet_wide_model_is_no_answer(own_served: Served) -> None:
    asked = own_served.forecasts[own_served.forecasts["model"] == "fleet"].head(2)
    file = own_served.made.training.fleet_file
    assert file is not None
    Path(own_served.lake.path(file)).unlink()
    with pytest.raises(LostModelsError, match=file):
        answered(of_lake(own_served).view(), 1, asked[ASKED])


def test_the_cache_is_bounded_and_holds_what_was_asked_last(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_SERVING_MODELS_MB", "0.1")
    fleet = of_lake(served)
    asked = served.forecasts
    same(answered(fleet.view(), 1, asked[ASKED]), asked)
    assert 0 < len(fleet.models) < (served.champion.listing.to_pandas()["chosen"] == "segment").sum()
    assert fleet.models.held <= 1e5
    before = fleet.models.loads
    one = asked[asked["model"] == "segment"].head(1)
    answered(fleet.view(), 1, one[ASKED])
    answered(fleet.view(), 1, one[ASKED])
    assert fleet.models.loads <= before + 1
    monkeypatch.setenv("FLEET_SERVING_MODELS_MB", "much")
    with pytest.raises(InputError, match="FLEET_SERVING_MODELS_MB"):
        of_lake(served)


def test_new_features_are_followed_and_an_old_recipe_is_worked_out_again(
    own_served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The features committed now have other lags; the champion's own are told from the committed rows, without Spark."""
    monkeypatch.setenv("FLEET_SERVING_REFRESH_SECONDS", "0")
    fleet, home = of_lake(own_served), own_served.home
    before = answered(fleet.view(), 1, own_served.forecasts[ASKED])
    keys = hostile_keys()
    other = {**keys["features"], "lags": [4, 5, 8], "rolling": {"windows": [2]}, "calendar": ["trend"]}
    home.configure(**{**keys, "features": other})
    built(home)
    assert current_features(home.lake).version != own_served.made.features.version
    after = answered(fleet.view(), 1, own_served.forecasts[ASKED])
    pd.testing.assert_frame_equal(after, before)
    home.configure(**{**keys, "features": {**keys["features"], "known_ahead": ["price", "weather"]}})
    publish_features(home.lake, home.spark, home.settings)
    with pytest.raises(NotServableError, match="'open', which the committed features do not have any more"):
        answered(fleet.view(), 1, own_served.forecasts[ASKED])


def test_new_rows_and_a_new_segment_are_served_as_batch_forecasts_serve_them(
    own_served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a server that ran before: its champion stays, and it follows the features."""
    monkeypatch.setenv("FLEET_SERVING_REFRESH_SECONDS", "0")
    home, fleet = own_served.home, of_lake(own_served)
    before = answered(fleet.view(), 1, own_served.forecasts[ASKED])
    table = hostile_sales()
    ahead = table["sold"].isna()
    table.loc[ahead, "price"] = 6.0 - table.loc[ahead, "price"]
    new = table[table["shop"] == "a b"].assign(shop="new")
    home.bring(pd.concat([table, new], ignore_index=True))
    ingest(home.lake, home.spark, home.settings)
    publish_features(home.lake, home.spark, home.settings)
    publish_forecasts(home.lake, home.spark, home.settings, current_features(home.lake), own_served.champion)
    wanted = home.lake.table("forecasts").arrow().to_pandas()
    assert (wanted["shop"] == "new").sum() == 4
    same(answered(fleet.view(), 1, wanted[ASKED]), wanted)
    assert not np.allclose(answered(fleet.view(), 1, own_served.forecasts[ASKED])["forecast"], before["forecast"])


def test_a_lake_that_lies_elsewhere_now_is_named_by_the_environment(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags, asked = served.champion.tags, served.forecasts.head(8)
    monkeypatch.setenv("FLEET_SERVING_LAKE", served.lake.root)
    fleet = ServedFleet(Published("/where/it/was", tags["published"], tags["training"]))
    same(answered(fleet.view(), 1, asked[ASKED]), asked)


def test_a_version_whose_fleet_is_gone_is_not_served(served: Served) -> None:
    tags = served.champion.tags
    with pytest.raises(InputError, match="is not there"):
        ServedFleet(Published(served.lake.root, "another", tags["training"]))
    with pytest.raises(InputError, match="is this the lake"):
        ServedFleet(Published(served.lake.root + "/nowhere", tags["published"], tags["training"]))


def test_a_version_that_was_never_approved_is_not_served(served: Served) -> None:
    mlflow, version = served.home.mlflow, str(served.champion.version)
    before = mlflow.version(version)
    assert before is not None
    client = mlflow.client()
    client.set_model_version_tag("tiny", version, "status", "pending")
    try:
        with pytest.raises(MlflowException, match="is pending: it was never approved"):
            champion_model(served)
    finally:
        client.set_model_version_tag("tiny", version, "status", before["status"])
    champion_model(served)


def test_rows_that_are_not_those_published_are_not_served(served: Served) -> None:
    tags = served.champion.tags
    with pytest.raises(InputError, match="has other rows than were published"):
        ServedFleet(Published(served.lake.root, tags["published"], tags["training"], "0" * 24))


def test_a_registered_version_is_small_and_nothing_in_it_is_pickled(served: Served) -> None:
    client = served.home.mlflow.client()
    version = client.get_model_version_by_alias("tiny", "champion")
    folder = Path(version.source)
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "champion.json", "fleet.json", "served_entry.py", "requirements.txt"} <= set(files)
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]
    assert sum(path.stat().st_size for path in files.values()) < 50_000
    assert json.loads(files["champion.json"].read_text())["tags"]["published"] == served.champion.tags["published"]
    assert any(line.startswith("lightgbm==") for line in files["requirements.txt"].read_text().splitlines())
    assert dataclasses.asdict(Published.from_json(files["fleet.json"].read_text()))["lake"] == served.lake.root
