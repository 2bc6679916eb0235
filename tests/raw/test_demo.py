"""The demo's table holds what its `truth` says, and everything real tables do wrong."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from assets.raw.demo import DRIFT_DAYS, demo_sales, write_demo

KEY = ["store", "department"]
SMALL = {"stores": 4, "departments": 6, "days": 200, "horizon": 14}


@pytest.fixture(scope="module")
def demo():
    return demo_sales()


@pytest.fixture(scope="module")
def rows(demo):
    """Rows with a key, duplicates resolved to the later one."""
    return demo.table.dropna(subset=KEY).drop_duplicates([*KEY, "date"], keep="last")


@pytest.fixture(scope="module")
def labelled(demo, rows):
    return rows[rows["date"] <= pd.Timestamp(demo.truth["last_label"])]


@pytest.fixture(scope="module")
def future(demo, rows):
    return rows[rows["date"] > pd.Timestamp(demo.truth["last_label"])]


def keys(groups):
    """The segments of a mask or frame grouped by KEY."""
    return set(groups.index[groups])


def test_same_seed_gives_the_same_bytes(tmp_path):
    first = write_demo(tmp_path / "a.parquet", seed=3, **SMALL).read_bytes()
    assert write_demo(tmp_path / "deep" / "b.parquet", seed=3, **SMALL).read_bytes() == first
    assert write_demo(tmp_path / "c.parquet", seed=4, **SMALL).read_bytes() != first


def test_file_holds_the_table_in_spark_readable_types(tmp_path):
    import pyarrow.parquet as pq

    path = write_demo(tmp_path / "sales.parquet", seed=3, **SMALL)
    pd.testing.assert_frame_equal(pd.read_parquet(path), demo_sales(seed=3, **SMALL).table)
    assert str(pq.read_schema(path).field("date").type) == "timestamp[us]"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_demo(tmp_path / "sales.parquet", **SMALL)
    before = path.read_bytes()

    def half(table, where, **options):
        where.write_bytes(b"PAR1")
        raise OSError("disk full")

    monkeypatch.setattr("pyarrow.parquet.write_table", half)
    with pytest.raises(OSError, match="disk full"):
        write_demo(path, seed=4, **SMALL)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [{"stores": 2, "departments": 5}, {"days": 100}, {"horizon": 0}])
def test_sizes_too_small_for_the_ingredients_are_refused(size):
    with pytest.raises(ValueError, match="the demo needs"):
        demo_sales(**size)


def test_smallest_size_still_has_every_ingredient():
    truth = demo_sales(stores=3, departments=4, days=150, horizon=1, end=date(2024, 2, 29)).truth
    empty = [name for name, value in truth.items() if not value]
    assert not empty


def test_shape_of_the_default_demo(demo, rows):
    table = demo.table
    assert list(table.columns[:4]) == ["store", "department", "date", "sales"]
    assert (table.dtypes == demo_sales(**SMALL).table.dtypes).all()
    assert str(table["footfall"].dtype) == "Int64"
    assert len(table) == demo.truth["rows"]
    assert 140_000 < len(table) < 150_000
    assert rows.groupby(KEY).ngroups == 200
    assert demo.truth["last_label"] == date(2026, 11, 15)


def test_names_are_hostile(rows):
    names = "".join(rows["department"].unique())
    assert all(character in names for character in " /'\",|%=🍦化ä")
    assert "Osaka 03" in set(rows["store"])


def test_rows_arrive_in_order_and_corrections_later(demo):
    repeated = demo.table.dropna(subset=KEY)
    repeated = repeated[repeated.duplicated([*KEY, "date"], keep=False)]
    pairs = repeated.groupby([*KEY, "date"], observed=True)["sales"].agg(["first", "last", "size"])
    assert len(pairs) == demo.truth["duplicates"] > 0
    assert (pairs["size"] == 2).all()
    assert (pairs["first"] != pairs["last"]).all()
    later = demo.table["date"].diff() < pd.Timedelta(0)
    assert 0 < later.sum() <= demo.truth["duplicates"]


def test_missing_days(demo, labelled):
    dates = labelled.groupby(KEY)["date"].agg(["min", "max", "nunique"])
    gaps = (dates["max"] - dates["min"]).dt.days + 1 - dates["nunique"]
    assert gaps.sum() == demo.truth["missing_days"] > 0


def test_new_and_closing_segments(demo, labelled):
    truth, dates = demo.truth, labelled.groupby(KEY)["date"].agg(["min", "max"])
    start, end = labelled["date"].min(), pd.Timestamp(truth["last_label"])
    new, closing = dates["min"] > start, dates["max"] < end
    assert {key: day.date() for key, day in dates.loc[new, "min"].items()} == truth["new"]
    assert {key: day.date() for key, day in dates.loc[closing, "max"].items()} == truth["closing"]
    assert (end - dates.loc[new, "min"]).max() < pd.Timedelta(days=60)
    assert (end - dates.loc[closing, "max"]).min() > pd.Timedelta(days=40)


def test_constant_and_empty_labels(demo, labelled):
    values = labelled.groupby(KEY)["sales"].nunique()
    assert keys(values == 1) == set(demo.truth["constant"])
    assert keys(values == 0) == set(demo.truth["null_label"])
    others = labelled.set_index(KEY).drop(index=demo.truth["null_label"])
    assert others["sales"].notna().all()


def test_drift_is_in_the_known_segments_only(demo, labelled):
    """The last weeks against the same weeks a year before, 364 days earlier so that weekdays match."""
    truth = demo.truth
    since, window = pd.Timestamp(truth["drift_from"]), pd.Timedelta(days=DRIFT_DAYS)
    assert since + window - pd.Timedelta(days=1) == pd.Timestamp(truth["last_label"])
    odd = [*truth["new"], *truth["closing"], *truth["null_label"], *truth["constant"]]
    usual = labelled.set_index(KEY).drop(index=odd)

    def change(after):
        before = after - pd.Timedelta(days=364)
        mean = [
            usual[usual["date"].between(day, day + window - pd.Timedelta(days=1))].groupby(KEY)["sales"].mean()
            for day in (before, after)
        ]
        return np.log(mean[1] / mean[0])

    drifted = change(since).abs() > 0.42
    assert keys(drifted) == set(truth["drifted"])
    direction = np.sign(change(since)[list(truth["drifted"])])
    assert (direction == np.sign(np.log(list(truth["drifted"].values())))).all()
    assert not keys(change(since - window).abs() > 0.42)


def test_future_rows(demo, rows, future):
    truth = demo.truth
    assert len(future) == truth["future_rows"]
    assert future[["sales", "footfall"]].isna().all(axis=None)
    assert future[["price", "promotion", "holiday", "store_type"]].notna().all(axis=None)
    assert (future.groupby(KEY)["date"].nunique() == 28).all()
    segments = set(rows.groupby(KEY).groups)
    without = segments - set(future.groupby(KEY).groups)
    assert without == set(truth["closing"]) | set(truth["without_future"])


def test_bad_rows(demo):
    table, truth = demo.table, demo.truth
    assert table[KEY].isna().any(axis=1).sum() == truth["null_keys"] > 0
    assert table[KEY].isna().any().all()
    assert np.isinf(table["price"]).sum() == truth["infinite_prices"] > 0


def test_sales_are_money_with_zeros_and_returns(labelled):
    sales = labelled["sales"].dropna()
    assert (sales == sales.round(2)).all()
    assert 0 < (sales == 0).mean() < 0.02
    assert 0 < (sales < 0).mean() < 0.005
    assert 0 < labelled["footfall"].isna().mean() < 0.02


def test_promotion_price_and_holiday_move_sales(demo, labelled):
    """What is known ahead carries a signal: the log of sales regressed on it, within segment and weekday."""
    usual = labelled[(labelled["sales"] > 0) & np.isfinite(labelled["price"])]
    usual = usual[~usual.set_index(KEY).index.isin(demo.truth["constant"])]
    part = usual.assign(sales=np.log(usual["sales"]), price=np.log(usual["price"]), week=usual["date"].dt.dayofweek)
    columns = ["sales", "promotion", "price", "holiday"]
    part[columns] = part[columns].astype(float)
    part[columns] -= part.groupby([*KEY, "week"])[columns].transform("mean")
    effect = {}
    for kind, group in part.groupby("store_type"):
        features = group[["promotion", "price", "holiday"]].to_numpy()
        effect[kind] = np.linalg.lstsq(features, group["sales"].to_numpy(), rcond=None)[0]
    assert all(0.1 < promotion < 0.4 for promotion, _, _ in effect.values())
    assert all(-1.3 < price < -0.2 for _, price, _ in effect.values())  # takings fall with price, less than units
    assert effect["a"][2] < -0.2 < 0.2 < effect["b"][2]
