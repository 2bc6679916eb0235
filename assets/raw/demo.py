"""Retail sales that were never rung up: the table behind the demo, with everything real tables do wrong.

Two years of daily sales of every store and department. Promotions, prices and holidays move them and are
known ahead, so a model per segment has something to learn that last week's numbers do not hold.
`DemoSales.truth` says what was put in and where: tests and readers can tell whether the system found it.
Shapes: S segments, T days, the labelled ones first and the future ones after.
"""

import os
import uuid
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Rng = np.random.Generator
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

COLUMNS = ["store", "department", "date", "sales", "price", "promotion", "holiday", "store_type", "footfall"]
END = date(2026, 11, 15)
DRIFT_DAYS = 56
CITIES = ["Osaka", "Tokyo", "Kyōto", "札幌", "Fukuoka"]
DEPARTMENTS = [
    "Fruit & Veg", "Deli / Bakery", "Kids' Toys", '12" Pans', "Wine, Beer",
    "Ice cream 🍦", "化粧品", "Käse & Würste", "Pets | Garden", "100% Wool = Socks?",
]  # fmt: skip
STORE_TYPES = ["a", "b", "c"]  # a: among offices, b: in a suburb, c: at a railway station
WEEK = np.array([  # log effect of Monday to Sunday, by store type
    [0.10, 0.08, 0.08, 0.10, 0.15, -0.12, -0.35],
    [-0.15, -0.18, -0.15, -0.10, 0.02, 0.28, 0.32],
    [0.02, 0.00, 0.02, 0.05, 0.16, 0.02, -0.18],
])  # fmt: skip
HOLIDAY = np.array([-0.35, 0.30, -0.10])  # log effect of a public holiday, by store type
KINDS = {  # what is odd about some segments, and the share of all that are so; at least one is
    "new": 0.025, "closing": 0.025, "constant": 0.015, "null_label": 0.005,
    "drifted": 0.05, "without_future": 0.02,
}  # fmt: skip


@dataclass(frozen=True)
class DemoSales:
    """`table`: rows in order of arrival. `truth`: what was put in; a segment is (store, department)."""

    table: pd.DataFrame
    truth: dict[str, Any]


def demo_sales(
    stores: int = 20,
    departments: int = 10,
    days: int = 730,
    horizon: int = 28,
    seed: int = 7,
    *,
    end: date = END,
) -> DemoSales:
    """Sales of `stores` x `departments` segments, `days` days up to `end`, then `horizon` days to come."""
    if stores * departments < 12 or days < 150 or horizon < 1:
        raise ValueError("the demo needs at least 12 segments, 150 days and a horizon of 1 day")
    rng = np.random.default_rng(seed)
    segments = _segments(rng, stores, departments, days)
    calendar = _calendar(end, days, horizon)
    promotion = _promotions(rng, len(segments), len(calendar))
    price, relative_price = _prices(rng, promotion)
    units = _expected_units(rng, segments, calendar, relative_price, promotion)
    units *= np.where(calendar["day"].to_numpy() < days - DRIFT_DAYS, 1.0, segments[["factor"]].to_numpy())
    sales, footfall = _sold(rng, segments["kind"].to_numpy(), units, price)
    sales[:, days:] = footfall[:, days:] = np.nan
    columns = {"sales": sales, "price": price, "promotion": promotion, "footfall": footfall}
    table, put_in = _spoiled(rng, _rows(segments, calendar, columns, days), days)
    known = {"last_label": end, "drift_from": calendar["date"][days - DRIFT_DAYS].date()}
    return DemoSales(table, _odd_segments(segments, calendar["date"]) | known | put_in)


def write_demo(
    path: Path,
    *,
    stores: int = 20,
    departments: int = 10,
    days: int = 730,
    horizon: int = 28,
    seed: int = 7,
    end: date = END,
) -> Path:
    """The table of `demo_sales` as one Parquet file at `path`, which appears whole or not at all."""
    sales = demo_sales(stores, departments, days, horizon, seed, end=end).table
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        pq.write_table(pa.Table.from_pandas(sales, preserve_index=False), unfinished, compression="zstd")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _segments(rng: Rng, stores: int, departments: int, days: int) -> pd.DataFrame:
    """A row a segment: names and numbers, store type, kind, first and last labelled day, factor of drift."""
    count = stores * departments
    cities = [f"{CITIES[i % len(CITIES)]} {i // len(CITIES) + 1:02d}" for i in range(stores)]
    goods = [DEPARTMENTS[i % 10] + (f" {i // 10 + 1}" if i >= 10 else "") for i in range(departments)]
    odd = np.concatenate([np.repeat(kind, max(1, round(share * count))) for kind, share in KINDS.items()])
    kind = np.full(count, "", dtype=object)
    kind[rng.permutation(count)[: len(odd)]] = odd
    closed = days - 1 - rng.integers(41, 110, count)
    return pd.DataFrame(
        {
            "store": np.repeat(np.array(cities, dtype=object), departments),
            "department": np.tile(np.array(goods, dtype=object), stores),
            "store_number": np.repeat(np.arange(stores), departments),
            "department_number": np.tile(np.arange(departments), stores),
            "type": np.repeat(rng.permutation(np.arange(stores) % len(STORE_TYPES)), departments),
            "kind": kind,
            "first": np.where(kind == "new", days - rng.integers(20, 59, count), 0),
            "last": np.where(kind == "closing", closed, days - 1),
            "factor": np.where(kind == "drifted", rng.choice([0.4, 0.45, 2.0, 2.2], count), 1.0),
        }
    )


def _calendar(end: date, days: int, horizon: int) -> pd.DataFrame:
    """A row a day (T): its number, its date, and whether it is a public holiday in Japan (no substitutes)."""
    start = pd.Timestamp(end) - pd.Timedelta(days=days - 1)
    dates = pd.date_range(start, periods=days + horizon, freq="D", unit="us")
    fixed = ["01-01", "01-02", "01-03", "02-11", "02-23", "03-20", "04-29", "05-03", "05-04", "05-05"]
    fixed += ["08-11", "09-23", "11-03", "11-23"]
    which_monday = pd.Series({1: 2, 7: 3, 9: 3, 10: 2}).reindex(dates.month).to_numpy()
    monday = (dates.dayofweek == 0) & ((dates.day - 1) // 7 + 1 == which_monday)
    holiday = monday | dates.strftime("%m-%d").isin(fixed)
    return pd.DataFrame({"day": np.arange(len(dates)), "date": dates, "holiday": holiday})


def _promotions(rng: Rng, segments: int, days: int) -> Flags:
    """(S, T) campaigns of 3 to 8 days that start on any day, about one day in six."""
    starts = rng.random((segments, days)) < 1 / 30
    length = rng.integers(3, 9, (segments, 1))
    running = np.zeros((segments, days), dtype=np.bool_)
    for age in range(8):
        running[:, age:] |= starts[:, : days - age] & (age < length)
    return running


def _prices(rng: Rng, promotion: Flags) -> tuple[Floats, Floats]:
    """(S, T) price in currency a unit, and over the usual one: lists change at times, campaigns cut them."""
    segments, days = promotion.shape
    usual = np.exp(rng.uniform(np.log(2.0), np.log(40.0), (segments, 1)))
    list_number = np.cumsum(rng.random((segments, days)) < 1 / 40, axis=1, dtype=np.int64)
    level = np.take_along_axis(rng.normal(0.0, 0.05, (segments, list_number.max() + 1)), list_number, axis=1)
    cut = rng.choice([0.05, 0.10, 0.15, 0.20], (segments, days // 28 + 1))[:, np.arange(days) // 28]
    price = np.round(usual * np.exp(level) * np.where(promotion, 1 - cut, 1.0), 2)
    return price, price / usual


def _expected_units(
    rng: Rng, segments: pd.DataFrame, calendar: pd.DataFrame, relative_price: Floats, promotion: Flags
) -> Floats:
    """(S, T) units a day before chance: seasons, trend, price and promotion, a store's good and bad weeks."""
    (count, days), dates = relative_price.shape, pd.DatetimeIndex(calendar["date"])
    kind, goods = segments["type"].to_numpy(), segments["department_number"].to_numpy()
    week = (WEEK[kind] + rng.normal(0.0, 0.05, (count, 7)))[:, dates.dayofweek]
    peak, swing = rng.uniform(0, 365.25, goods.max() + 1), rng.uniform(0.08, 0.30, goods.max() + 1)
    turn = 2 * np.pi * (dates.dayofyear.to_numpy() - peak[goods, None]) / 365.25
    year_end = (dates.month == 12) & (dates.day >= 20)
    season = week + swing[goods, None] * np.cos(turn) + 0.08 * (dates.day >= 25) + 0.25 * year_end
    rest = (HOLIDAY[kind] + rng.normal(0.0, 0.05, count))[:, None] * calendar["holiday"].to_numpy()
    trend = rng.normal(0.0, 0.05, (count, 1)) * (np.arange(days) - days) / 365.25
    lift, elasticity = rng.uniform(0.10, 0.40, (count, 1)), rng.uniform(1.2, 2.2, (count, 1))
    shop = lift * promotion - elasticity * np.log(relative_price)
    luck = rng.normal(0.0, 0.12, (days, segments["store_number"].max() + 1))
    weather = pd.DataFrame(luck).ewm(alpha=0.4, adjust=False).mean().to_numpy().T[segments["store_number"]]
    level = rng.uniform(np.log(4.0), np.log(250.0), (count, 1))
    new_year = (dates.month == 1) & (dates.day == 1)
    return np.asarray(np.exp(level + season + rest + trend + shop + weather) * ~new_year)


def _sold(rng: Rng, kind: npt.NDArray[np.object_], units: Floats, price: Floats) -> tuple[Floats, Floats]:
    """(S, T) takings in currency, below zero where more came back than went out, and visitors a day."""
    sold = rng.poisson(units * np.exp(rng.normal(0.0, 0.13, units.shape)))
    sold = np.where(rng.random(units.shape) < 0.001, -rng.integers(1, 6, units.shape), sold)
    visitors = rng.poisson(units * rng.uniform(2.0, 5.0, (len(units), 1)))
    footfall = np.where(rng.random(units.shape) < 0.005, np.nan, visitors)  # the counter at the door fails
    rent = np.round(rng.uniform(20.0, 200.0, (len(units), 1)), 2)  # let to others, who pay the same every day
    sales = np.where(kind[:, None] == "constant", rent, np.round(sold * price, 2))
    return np.where(kind[:, None] == "null_label", np.nan, sales), footfall


def _rows(
    segments: pd.DataFrame, calendar: pd.DataFrame, columns: dict[str, npt.NDArray[Any]], days: int
) -> pd.DataFrame:
    """What is known of each segment on each day it is open, by day; `day` and `kind` are there to help."""
    day = calendar["day"].to_numpy()
    open_ = (day >= segments[["first"]].to_numpy()) & (day <= segments[["last"]].to_numpy())
    ends = segments["kind"].isin(["closing", "without_future"]).to_numpy()
    day, segment = np.nonzero((open_ | ((day >= days) & ~ends[:, None])).T)
    rows = segments[["store", "department", "kind"]].iloc[segment].reset_index(drop=True)
    rows = rows.assign(**{name: values[segment, day] for name, values in columns.items()})
    rows = rows.join(calendar.iloc[day].reset_index(drop=True))
    rows["store_type"] = np.array(STORE_TYPES, dtype=object)[segments["type"].to_numpy()[segment]]
    rows["footfall"] = rows["footfall"].astype("Int64")
    return rows[[*COLUMNS, "day", "kind"]]


def _spoiled(rng: Rng, rows: pd.DataFrame, days: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows as they arrive: some lost, some corrected later, some without a key or with an infinite price."""
    ordinary = rows["day"].between(1, days - 2) & rows["kind"].isin(["", "drifted"])
    at = rng.permutation(np.flatnonzero(ordinary))
    counts = [round(0.004 * len(at)), round(0.002 * len(at)), 3, 4]
    lost, corrected, infinite, keyless, _ = np.split(at, np.cumsum(counts))
    correction, without_key = rows.iloc[corrected].copy(), rows.iloc[keyless].copy()
    correction["day"] = np.minimum(correction["day"] + rng.integers(1, 8, len(corrected)), days - 1)
    without_key.loc[keyless[:2], "store"] = None
    without_key.loc[keyless[2:], "department"] = None
    rows.loc[corrected, "sales"] = (rows.loc[corrected, "sales"] * 2 + 1).round(2)  # a till counted twice
    rows.loc[infinite, "price"] = np.inf
    kept = rows[~rows.index.isin(lost)]
    table = pd.concat([kept, correction, without_key]).sort_values("day", kind="stable", ignore_index=True)
    names = ["missing_days", "duplicates", "infinite_prices", "null_keys", "future_rows", "rows"]
    counts += [int((rows["day"] >= days).sum()), len(table)]
    return table[COLUMNS], dict(zip(names, counts, strict=True))


def _odd_segments(segments: pd.DataFrame, dates: "pd.Series[pd.Timestamp]") -> dict[str, Any]:
    """The segments of each kind; new and closing ones with first or last date, drifted ones the factor."""
    keys = pd.Series(list(zip(segments["store"], segments["department"], strict=True)))
    truth: dict[str, Any] = {kind: keys[segments["kind"] == kind].tolist() for kind in KINDS}
    details = {"new": dates[segments["first"]].dt.date, "closing": dates[segments["last"]].dt.date}
    for kind, values in (details | {"drifted": segments["factor"]}).items():
        chosen = values[(segments["kind"] == kind).to_numpy()]
        truth[kind] = dict(zip(truth[kind], chosen.tolist(), strict=True))
    return truth
