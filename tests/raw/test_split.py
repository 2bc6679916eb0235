"""Rows without time: where a row stands follows from the row alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from assets.features.contract import judged_rows, valid_rows
from assets.raw.kinds import column_kinds
from assets.raw.parse import KEY, PERIOD
from assets.raw.profile import Profile
from assets.raw.read import read_source
from assets.raw.source import find_files
from assets.raw.split import LAST_ROW, ROWS_A_CLASS
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet
from tests.cycle import flats, without_time


def placed(spark: Spark, fleet: Fleet, buckets: int = 3) -> pd.DataFrame:
    """The valid rows of a fleet's table with their class and place."""
    raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    kinds = column_kinds(raw, fleet.settings)
    profile = Profile(rows=1, kinds=kinds, split_by=["district", *kinds])
    rows = valid_rows(judged_rows(raw, fleet.settings, profile, buckets)).toPandas()
    return rows.assign(part=rows[PERIOD] // ROWS_A_CLASS, place=rows[PERIOD] % ROWS_A_CLASS)


def parts_of(rows: pd.DataFrame) -> dict[tuple[Any, ...], int]:
    """Class of each distinct row."""
    columns = ["district", "size", "floor", "kind", "rent"]
    found = rows.groupby(columns, dropna=False)["part"]
    assert (found.nunique() == 1).all(), "rows that are the same stand on two sides"
    return {tuple(map(str, key)): part for key, part in found.first().items()}


ROW = st.tuples(
    st.sampled_from(["a", "b|c"]), st.sampled_from([1.0, 2.5, -3.25, np.nan]), st.integers(-2, 2),
    st.sampled_from(["old", "", "x y"]), st.one_of(st.none(), st.integers(0, 3).map(float)),
)  # fmt: skip


@hypothesis_settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(ROW, min_size=2, max_size=60), more=st.lists(ROW, max_size=60), data=st.data())
def test_a_row_stays_in_its_class_whatever_the_other_rows_are(
    spark: Spark, make_fleet: MakeFleet, rows: list[Any], more: list[Any], data: st.DataObject
) -> None:
    anchor = [("a", 1.0, 1, "old", 1.0)]
    tables = {"rows": [*anchor, *rows], "more": data.draw(st.permutations([*anchor, *rows, *more]))}
    found = {}
    for name, each in tables.items():
        table = pd.DataFrame(each, columns=["district", "size", "floor", "kind", "rent"])
        fleet = make_fleet(table, **without_time())
        found[name] = placed(spark, fleet, buckets=3 if name == "rows" else 7)
        periods = found[name].groupby([KEY, "part"])["place"].apply(sorted)
        assert all(places == list(range(len(places))) for places in periods), "places are 0, 1, 2 ... in a class"
        assert found[name][PERIOD].between(0, LAST_ROW).all()
        assert len(found[name]) == len(each)
    before, after = parts_of(found["rows"]), parts_of(found["more"])
    assert {key: after[key] for key in before} == before


def test_a_tenth_is_held_out_and_a_tenth_is_the_fold(spark: Spark, make_fleet: MakeFleet) -> None:
    rows = placed(spark, make_fleet(flats(2, 3000), **without_time()))
    shares = rows["part"].value_counts(normalize=True)
    assert shares[0] == pytest.approx(0.8, abs=0.03)
    assert shares[1] == pytest.approx(0.1, abs=0.02)
    assert shares[2] == pytest.approx(0.1, abs=0.02)
    assert not rows.duplicated([KEY, PERIOD]).any()


def test_the_format_of_the_file_and_an_empty_cell_elsewhere_change_nothing(spark: Spark, make_fleet: MakeFleet) -> None:
    table = flats(2, 150).drop(columns="lift")
    fleets = {
        "parquet": make_fleet(table, **without_time()),
        "csv": make_fleet(table.to_csv(index=False), **without_time()),
        "decimals": make_fleet(table.astype({"floor": float}), **without_time()),
        "columns": make_fleet(table[table.columns[::-1]], **without_time()),
    }
    found = {name: parts_of(placed(spark, fleet)) for name, fleet in fleets.items()}
    assert len(set(found["parquet"].values())) == 3
    assert all(each == found["parquet"] for each in found.values())


def test_any_cell_counts(spark: Spark, make_fleet: MakeFleet) -> None:
    table = pd.concat([flats(1, 300).assign(size=1.0, floor=n % 3, kind="k", lift=True) for n in range(3)])
    other = table.assign(kind="other")
    parts = [
        placed(spark, make_fleet(each, **without_time())).set_index(["rent", "floor"])["part"]
        for each in (table, other)
    ]
    assert not parts[0].sort_index().equals(parts[1].sort_index())
