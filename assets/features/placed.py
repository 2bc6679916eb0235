"""Rows of the raw table judged one by one, placed on the calendar and in buckets, and handed over bucket by bucket.

Good rows carry what features are made of. The others carry their reasons and their raw cells, which are most of the
bytes; all rows do where rows have to be looked at together before it is known which are good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.features.contract import BUCKET, placed_frame
from assets.partitions import bucket_of
from assets.raw.arrow_cells import Places, Truths, decoded
from assets.raw.broken import BrokenRules, RowsOfShare, broken_rules, rows_of
from assets.raw.calendar import nanoseconds
from assets.raw.parse import KEY, NOTED, PERIOD, REASONS, SOURCE
from assets.raw.profile import Profile
from assets.raw.snapshot import RawRows, Share, batches_of_share, rows_at_once
from assets.raw.source import ARRIVED, FILE, LINEAGE, ROW
from assets.raw.split import HASH
from assets.raw.typed import Reading, Typed, held_against, typed
from resources.exchange import Exchange, in_portions
from resources.settings import Settings
from resources.spark import light_collections, quoted
from resources.spread import Say, spread

if TYPE_CHECKING:
    from resources.spark import Spark

CAME_FROM = [FILE, ROW, ARRIVED]
TOLD = [REASONS, NOTED, SOURCE, *CAME_FROM]
Portion = tuple[pa.Table | None, pa.Table | None]  # good rows, and others with all that is known of them
HANDED = pa.schema([("good", pa.string()), ("told", pa.string()), ("rows", pa.int64())])


@dataclass(frozen=True)
class Placing:
    """Where rows go: the profile of their table (as JSON), how many buckets there are, and what features look at.

    The rows of other segments than `only` some go nowhere.
    """

    profile_json: str
    buckets: int
    segment: list[str]
    inputs: list[str]
    only: frozenset[str] | None = None

    @property
    def profile(self) -> Profile:
        """The table's profile."""
        return _profile(self.profile_json)

    @property
    def all_told(self) -> bool:
        """Whether every row carries all that is known of it."""
        return self.profile.timeline is None or self.profile.repeated

    @property
    def columns(self) -> list[str]:
        """What good rows carry."""
        return list(dict.fromkeys([*self.segment, KEY, PERIOD, *self.inputs, BUCKET]))


@lru_cache(maxsize=2)
def _profile(profile_json: str) -> Profile:
    return Profile.from_json(profile_json)


class Placed(NamedTuple):
    """The files in which rows were handed over: those that nothing is held against, and the others.

    `source` are the columns that rows came with, under the names that `fleet.yaml` has.
    """

    good: list[str]
    told: list[str]
    source: pa.Schema


def part_of(buckets: Places, of: int, parts: int) -> Places:
    """The part in which the rows of each of some buckets are handed over."""
    return buckets * parts // of


def place_plain(
    spark: Spark,
    raw: RawRows,
    settings: Settings,
    reading: Reading,
    placing: Placing,
    given: Exchange,
    say: Say | None = None,
) -> Placed:
    """Hands over the rows of a plain table, which workers read themselves."""
    rules = broken_rules(spark, raw, settings, reading, given)
    work = partial(_placed_share, schema=raw.schema, reading=reading, placing=placing, rules=rules, given=given)
    lines = spread(spark, raw.shares(), work, HANDED, short=True, what="judged", total=raw.rows, unit="rows", say=say)
    return _placed(lines, pa.schema([field for field in raw.schema if field.name not in LINEAGE]))


def place_frame(spark: Spark, raw: RawRows, settings: Settings, placing: Placing, given: Exchange) -> Placed:
    """Hands over the rows of any table, as Spark reads and types them."""
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import to_arrow_schema

    rows = placed_frame(raw.frame(spark, settings), settings, placing.profile, placing.buckets)
    if placing.only is not None:
        rows = rows.where(F.col(KEY).isin(list(placing.only)))
    names = [name for name in [*placing.columns, *TOLD, HASH] if name in rows.columns]
    # Spark would take a dot in a name for a field of a struct
    plain = rows.select(*[F.col(quoted(name)).alias(f"c{n}") for n, name in enumerate(names)])

    def handed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        light_collections()
        portions = in_portions(batches, rows_at_once(len(raw.schema)))
        split = (_split(some.combine_chunks().rename_columns(names), placing) for some in portions)
        yield pa.RecordBatch.from_pylist([_handed_over(split, placing, given)], HANDED)

    source = to_arrow_schema(rows.schema[SOURCE].dataType, timezone="UTC")
    return _placed(plain.mapInArrow(handed, "good string, told string, rows long").toArrow(), source)


def _placed(lines: pa.Table, source: pa.Schema) -> Placed:
    good, told = (lines[name].drop_null().to_pylist() for name in ("good", "told"))
    return Placed(good, told, source)


def _split(rows: pa.Table, placing: Placing) -> Portion:
    if placing.all_told:
        return None, rows
    told = pc.greater(pc.add(pc.list_value_length(rows[REASONS]), pc.list_value_length(rows[NOTED])), 0)
    return rows.filter(pc.invert(told)).select(placing.columns), rows.filter(told)


def _handed_over(portions: Iterator[Portion], placing: Placing, given: Exchange) -> dict[str, Any]:
    """Writes portions of good rows and of others; says where, and of how many rows."""
    rows = 0
    with given.writer() as good, given.writer() as told:
        for of_good, of_told in portions:
            for writer, some in ((good, of_good), (told, of_told)):
                if some is not None:
                    writer.write(some, _parts_of(some, placing, given.parts, rows))
                    rows += some.num_rows
    return {"good": good.file, "told": told.file, "rows": rows}


def _parts_of(rows: pa.Table, placing: Placing, parts: int, first: int) -> Places:
    """The part of each row: its bucket's, or any for a row that no other row has to do with, whatever their number."""
    of_bucket = part_of(rows[BUCKET].to_numpy().astype(np.int64), placing.buckets, parts)
    if REASONS not in rows.column_names:
        return of_bucket
    lost = pc.equal(rows[KEY], "") if placing.all_told else pc.greater(pc.list_value_length(rows[REASONS]), 0)
    return np.where(lost.to_numpy(), (first + np.arange(rows.num_rows)) % parts, of_bucket)


def _placed_share(
    share: Share, schema: pa.Schema, reading: Reading, placing: Placing, rules: BrokenRules | None, given: Exchange
) -> Iterator[dict[str, Any]]:
    yield _handed_over(_portions(share, schema, reading, placing, rows_of(rules, share)), placing, given)


def _portions(
    share: Share, schema: pa.Schema, reading: Reading, placing: Placing, broken: RowsOfShare
) -> Iterator[Portion]:
    """Good rows and others of each batch; raw cells are read only if somebody asks for them."""
    source = [name for name in schema.names if name not in LINEAGE]
    whole = [*source, *CAME_FROM, *reading.columns]
    noted, places = list[pa.Table](), list[Places]()
    first = 0
    for batch in batches_of_share(share, schema, whole if placing.all_told else reading.columns):
        rows, told = judged_batch(batch, reading, placing, broken, first)
        wanted, place = _wanted(rows, placing), first
        first += batch.num_rows
        if placing.all_told:
            chosen = pa.array(wanted)
            yield None, _with_raw(rows.filter(chosen), batch.filter(chosen), source)
            continue
        good, odd = wanted & ~told, wanted & told
        yield (rows if good.all() else rows.filter(pa.array(good))).select(placing.columns), None
        noted.append(rows.filter(pa.array(odd)))
        places.append(place + np.flatnonzero(odd))
    if noted and sum(map(len, places)):
        again = batches_of_share(share, schema, whole)
        yield from ((None, some) for some in _told(again, pa.concat_tables(noted), np.concatenate(places), source))


def _told(
    batches: Iterator[pa.RecordBatch], rows: pa.Table, places: Places, source: Sequence[str]
) -> Iterator[pa.Table]:
    """Judged rows, which have these places among those of the batches, with what else is known of them."""
    first = 0
    for batch in batches:  # which begin and end elsewhere than with fewer columns
        start, end = np.searchsorted(places, [first, first + batch.num_rows])
        if start < end:
            yield _with_raw(rows.slice(start, end - start), batch.take(pa.array(places[start:end] - first)), source)
        first += batch.num_rows


def _wanted(rows: pa.Table, placing: Placing) -> Truths:
    if placing.only is None:
        return np.ones(rows.num_rows, bool)
    return pc.is_in(rows[KEY], pa.array(placing.only, pa.string())).to_numpy()


def _with_raw(rows: pa.Table, batch: pa.RecordBatch, source: Sequence[str]) -> pa.Table:
    """Judged rows with their raw cells and where they came from."""
    cells = [decoded(batch.column(name)) for name in source]
    file, row, arrived = (decoded(batch.column(name)) for name in CAME_FROM)
    columns = {SOURCE: pa.StructArray.from_arrays(cells, names=list(source)), FILE: file, ROW: row}
    for name, column in {**columns, ARRIVED: arrived.fill_null(1)}.items():
        rows = rows.append_column(name, column)
    return rows


def judged_batch(
    batch: pa.RecordBatch, reading: Reading, placing: Placing, broken: RowsOfShare, first: int
) -> tuple[pa.Table, Truths]:
    """Rows of a batch, which begins at the `first` of a share's, judged; and of which of them something is said.

    Gives what features look at, `__period`, `fleet_bucket`, `__reasons` and `__noted`.
    """
    found = typed(batch, reading)
    period, placed = _periods(found, placing)
    refusing, noting = broken.among(first, batch.num_rows)
    against = [*found.against, *refusing]
    against += _of_calendar(found, against, period, placed, placing)
    refused, reasons = held_against(against, batch.num_rows)
    noted, rules = held_against(noting, batch.num_rows)
    buckets = np.array([bucket_of(key, placing.buckets) for key in found.keys.texts.to_pylist()], np.int32)
    places = pa.array(found.keys.places)
    columns = {
        **{name: decoded(batch.column(name)) for name in placing.segment},
        KEY: found.keys.texts.take(places),
        PERIOD: pa.array(period.astype(np.int32), mask=~placed),
        **{name: found.values[name] for name in placing.inputs},
        BUCKET: pa.array(buckets[found.keys.places]),
        REASONS: reasons,
        NOTED: rules,
    }
    return pa.table(columns), refused | noted


def _of_calendar(
    found: Typed,
    against: Sequence[tuple[str, Truths]],
    period: Places,
    placed: Truths,
    placing: Placing,
) -> list[tuple[str, Truths]]:
    usable = np.ones(len(placed), bool)
    for _, mask in against:
        usable &= ~mask
    label = found.values[placing.inputs[0]].is_valid().to_numpy(zero_copy_only=False)
    late = placed & (period > placing.profile.last_period) & label
    return [("off_calendar", usable & ~placed), ("label_after_end", usable & late)]


def _periods(found: Typed, placing: Placing) -> tuple[Places, Truths]:
    """The calendar period of each row, and which rows have one; see `parse.with_period`."""
    calendar = placing.profile.times.calendar
    if calendar.unit:
        unit = calendar.unit // 1000
        period, beyond = np.divmod(found.micros - calendar.phase // 1000, unit)
        placed = found.timed & (beyond == 0) & (np.abs(period) <= np.iinfo(np.int32).max)
        return np.where(placed, period, 0), placed
    micros, periods = _numbered(placing.profile_json)
    place = np.minimum(np.searchsorted(micros, found.micros), len(micros) - 1)
    placed = found.timed & (micros[place] == found.micros)
    return np.where(placed, periods[place], 0), placed


@lru_cache(maxsize=2)
def _numbered(profile_json: str) -> tuple[Places, Places]:
    """The times of a calendar of uneven periods, in microseconds, and the periods' numbers; made once a process."""
    timeline = _profile(profile_json).times
    times = timeline.calendar.times(timeline.first_time, timeline.last_time)
    return nanoseconds(times) // 1000, timeline.calendar.periods(times)
