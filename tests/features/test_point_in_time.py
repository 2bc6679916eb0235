"""Features of a bucket: cut into pieces or not, with periods millions apart, in whatever order rows come."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.features import point_in_time as module
from assets.features.contract import BUCKET
from assets.features.grid import Grid
from assets.features.ordered import ordered
from assets.features.point_in_time import point_in_time, with_future
from assets.raw.parse import KEY, PERIOD
from assets.raw.profile import Profile, Timeline
from assets.raw.recipe import Recipe, recipe_of
from resources.settings import Settings

LAST = 6_000_000
GRID = Grid(0, np.arange(LAST + 10), {})


def recipe(days: int = 91, horizon: int = 2, **features: object) -> Recipe:
    start, last = pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-01") + pd.Timedelta(days - 1, "D")
    timeline = Timeline(
        time_type="date", frequency="D", phase=0, first_time=start, last_time=last, first_label=start, last_label=last
    )
    kinds = {"sold": "number", "note": "text"}
    chosen = {"past_only": ["note"], "lags": [2, 5], "rolling": {"windows": [2, 3]}, "calendar": []}
    settings = Settings(
        name="t", source={"path": "x"}, segment=["shop"], time="day", label="sold", horizon=horizon,
        features={**chosen, **features},
    )  # fmt: skip
    return recipe_of(settings, Profile.model_validate({"rows": 1, "kinds": kinds, "timeline": timeline}))


def bucket(rows: list[tuple[str, int, float | None]]) -> pa.Table:
    keys, periods, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table({
        "shop": pa.array(keys, pa.string()), KEY: pa.array(keys, pa.string()), PERIOD: pa.array(periods, pa.int32()),
        "sold": pa.array(labels, pa.float64()), "note": pa.array([f"{key} {p}" for key, p, _ in rows], pa.string()),
        BUCKET: pa.array([0] * len(rows), pa.int32()),
    })  # fmt: skip


def step_by_hand(own: Recipe, period: int) -> int:
    """From origin to origin, a horizon apart, until the next one is not before the period."""
    if not own.at_origin:
        return own.horizon
    origin = LAST
    while origin >= period:
        origin -= own.holdout * max(1, (origin - period) // own.holdout)
    while origin + own.horizon < period:
        origin += own.horizon
    return period - origin


def in_order(rows: list[tuple[str, int, float | None]]) -> pa.Table:
    (found,) = ordered(bucket(rows), ["shop"]).buckets()
    return found


def by_hand(rows: list[tuple[str, int, float | None]], key: str, period: int, own: Recipe) -> dict[str, object]:
    label = {(k, p): value for k, p, value in rows}
    found: dict[str, object] = {}
    step = step_by_hand(own, period)
    origin = period - step
    if own.at_origin:
        there = [back for back in range(own.horizon) if (key, origin - back) in label]
        known = [back for back in there if label[key, origin - back] is not None]
        found |= {"horizon@step": float(step), "sold@newest": label[key, origin - known[0]] if known else None}
        found |= {"note@newest": f"{key} {origin - there[0]}" if there else None}
    for lag in (2, 5):
        there = (key, period - lag) in label
        found |= {f"sold@lag_{lag}": label.get((key, period - lag))}
        found |= {f"note@lag_{lag}": f"{key} {period - lag}" if there else None}
    for window in (2, 3):
        held = [label.get((key, origin - back)) for back in range(window)]
        known = [value for value in held if value is not None]
        found |= {f"sold@mean_{window}": sum(known) / len(known) if known else None}
        found |= {f"sold@std_{window}": float(np.std(known, ddof=1)) if len(known) > 1 else None}
    return found


ROWS = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b|%", "ç"]), st.one_of(st.integers(0, 20), st.integers(0, LAST))),
    st.one_of(st.none(), st.integers(-5, 5).map(float)),
    min_size=1,
    max_size=40,
).map(lambda found: [(*place, value) for place, value in found.items()])


@given(rows=ROWS, piece=st.sampled_from([1, 7, 1 << 18]), at_origin=st.booleans())
def test_features_are_those_counted_by_hand(
    rows: list[tuple[str, int, float | None]], piece: int, at_origin: bool
) -> None:
    own = recipe(at_origin=at_origin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CELLS_AT_ONCE", piece)
        found = point_in_time(in_order(rows), own, GRID, LAST).to_pylist()
    assert [(row[KEY], row[PERIOD]) for row in found] == sorted((key, period) for key, period, _ in rows)
    for row in found:
        for name, wanted in by_hand(rows, row[KEY], row[PERIOD], own).items():
            assert row[name] == (pytest.approx(wanted, abs=1e-12) if isinstance(wanted, float) else wanted), name


def test_rows_millions_of_periods_apart_take_no_room_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out: list[int] = []
    trailing = module.trailing
    monkeypatch.setattr(
        module, "trailing", lambda cells, *given: laid_out.append(len(cells)) or trailing(cells, *given)
    )
    rows = [("a", 0, 1.0), ("a", LAST, 2.0), ("b", 5, 3.0), ("b", 5_000_000, 4.0)]
    point_in_time(in_order(rows), recipe(), GRID, LAST)
    assert 0 < sum(laid_out) < 100


@given(rows=ROWS, last=st.integers(0, 25))
def test_the_future_is_a_horizon_for_open_segments_and_nothing_for_closed_ones(
    rows: list[tuple[str, int, float | None]], last: int
) -> None:
    own = recipe()
    found = with_future(in_order(rows), own, last).to_pylist()
    newest = {key: max(period for k, period, _ in rows if k == key) for key, _, _ in rows}
    wanted = {(key, period) for key, period, _ in rows if period <= last}
    wanted |= {(key, last + n) for key, end in newest.items() if end > last - own.closed_after for n in (1, 2)}
    assert [(row[KEY], row[PERIOD]) for row in found] == sorted(wanted)
    assert all(row["shop"] == row[KEY] and row[BUCKET] == 0 for row in found)
    given_rows = {(key, period): value for key, period, value in rows}
    assert all(row["sold"] == given_rows.get((row[KEY], row[PERIOD])) for row in found)


@pytest.mark.parametrize(
    ("days", "features", "wanted"),
    [
        (200, {}, True),
        (199, {}, False),
        (200, {"lags": []}, False),
        (200, {"at_origin": False}, False),
        (20, {"lags": [], "at_origin": True}, True),
    ],
)
def test_features_are_those_of_the_origin_where_each_step_comes_a_hundred_times(
    days: int, features: dict[str, object], wanted: bool
) -> None:
    assert recipe(days=days, **features).at_origin is wanted


def test_with_a_horizon_of_one_every_lag_is_that_of_the_origin() -> None:
    assert not recipe(days=900, at_origin=True, horizon=1).at_origin


@given(rows=ROWS, buckets=st.integers(1, 3))
def test_rows_are_dealt_to_buckets_in_order_and_none_is_lost(
    rows: list[tuple[str, int, float | None]], buckets: int
) -> None:
    table = bucket(rows)
    keys = table[KEY].to_pylist()
    table = table.set_column(
        table.column_names.index(BUCKET), BUCKET, pa.array([len(key) % buckets for key in keys], pa.int32())
    )
    table = table.append_column("n", pa.array([len(key) for key in keys]))
    found = ordered(table, ["shop", "n"])
    assert found.segments[KEY].to_pylist() == sorted(set(keys), key=lambda key: (len(key) % buckets, key))
    assert found.starts.tolist() == np.flatnonzero(np.diff(found.segment, prepend=-1)).tolist()
    dealt = [part.select(table.column_names).to_pylist() for part in found.buckets()]
    assert all(len({row[BUCKET] for row in part}) == 1 for part in dealt)
    wanted = sorted(table.to_pylist(), key=lambda row: (row[BUCKET], row[KEY], row[PERIOD]))
    assert [row for part in dealt for row in part] == wanted
