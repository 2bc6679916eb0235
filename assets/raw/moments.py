"""What all rows of a raw table tell of it: their times, and what its segments are like, counted by workers.

A moment is a row as far as that asks: `__segment`, `__time` (null where it is no sensible one), `usable` (nothing is
held against it), `label` (null where it is not usable).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from assets.partitions import bucket_of
from assets.raw.broken import BrokenRules, broken_rules, rows_of
from assets.raw.calendar import FIRST_SENSIBLE, LAST_SENSIBLE, MOST_PERIODS
from assets.raw.description import Description, emptiest_first, emptiest_of, label_quantiles, sample_of
from assets.raw.kinds import Told
from assets.raw.not_text import NOT_TEXT, Place, not_text_in, refuse_not_text
from assets.raw.parse import KEY, NOTED, REASONS, TIME, Kind, parse_rows
from assets.raw.profile import Timeline
from assets.raw.recipe import Recipe
from assets.raw.segment_facts import Question, SegmentFacts, counts_of, facts_of, question_of
from assets.raw.snapshot import ROWS_AT_ONCE, RawRows, Share, batches_of_share
from assets.raw.source import FILE, ROW
from assets.raw.typed import (
    FIRST_MICROS,
    LAST_MICROS,
    MOST_ODD_TIMES,
    Keys,
    Places,
    Reading,
    Truths,
    Typed,
    held_against,
    keys_of,
    typed,
)
from resources.exchange import Exchange, in_portions
from resources.files import filesystem, write_parquet
from resources.settings import Settings
from resources.spark import light_collections, quoted
from resources.spread import Say, spread

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from resources.spark import Spark

LOOKED = pa.schema([("file", pa.string()), ("times", pa.string()), ("rows", pa.int64()), ("told", pa.string())])
COUNTED = pa.schema([(name, pa.string()) for name in ("counts", "described", "sample")])
SAMPLE = pa.schema([("span", pa.int32()), ("label", pa.float64())])
TIMES = {"time": pa.timestamp("us"), "rows": pa.int64(), "labels": pa.int64()}
NOTHING = Told(0, 0, 0, 0)
FIRST_ROWS = 1 << 15  # that the driver looks at, which is a guess and not the work


@dataclass(frozen=True)
class Looked:
    """Where workers wrote the moments of all rows, and how often each time came.

    Of a plain table also what its text columns say, and the texts of times that are yet to be told (None: too many).
    """

    files: list[str]
    times: list[str]
    told: dict[str, Told]
    odd: set[str] | None


def look_at_frame(raw: DataFrame, settings: Settings, kinds: dict[str, Kind], given: Exchange) -> Looked:
    """Hands over the moments of raw rows, as Spark types them, each to the part of its segment."""
    from pyspark.sql import functions as F

    sensible = f"{TIME} >= timestamp_ntz'{FIRST_SENSIBLE}' and {TIME} < timestamp_ntz'{LAST_SENSIBLE}'"
    moments = parse_rows(raw, settings, kinds).select(
        KEY,
        F.expr(f"if({sensible}, {TIME}, null)").alias(TIME),
        # rules that only count are looked at as well: one that fails on a row is to be known before anything is written
        F.expr(f"size({NOTED}) >= 0 and size({REASONS}) = 0").alias("usable"),
        F.expr(f"if(size({REASONS}) = 0, {quoted(settings.label)}, null)").alias("label"),
    )

    def handed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        light_collections()
        portions = (rows.combine_chunks() for rows in in_portions(batches, ROWS_AT_ONCE))
        keyed = ((rows, keys_of([rows[KEY].combine_chunks()])) for rows in portions)
        try:
            line = _handed_over(keyed, given)
        except UnicodeDecodeError:  # of a key: no other text is looked at here
            line = _told_of(("fleet.yaml segment", "a column of it has text that is not in UTF-8"))
        yield pa.RecordBatch.from_pylist([line], LOOKED)

    return _looked(moments.mapInArrow(handed, "file string, times string, rows long, told string").toArrow())


def look_at(
    spark: Spark,
    raw: RawRows,
    settings: Settings,
    reading: Reading,
    given: Exchange,
    with_rules: bool = True,
    say: Say | None = None,
) -> Looked:
    """The same of a plain table, whose rows workers read themselves; what rules refuse is usable without them.

    Raises:
        InputError: text is not in UTF-8.
    """
    rules = broken_rules(spark, raw, settings, reading, given) if with_rules else None
    work = partial(_looked_at, schema=raw.schema, reading=reading, label=settings.label, rules=rules, given=given)
    shares, total = raw.shares(), raw.rows
    return _looked(spread(spark, shares, work, LOOKED, short=True, what="looked at", total=total, unit="rows", say=say))


def first_told(raw: RawRows, reading: Reading) -> dict[str, Told]:
    """What the text columns of a plain table's first rows say."""
    shares = raw.shares()
    batches = chain.from_iterable(batches_of_share(each, raw.schema, reading.columns, FIRST_ROWS) for each in shares)
    first = next((batch for batch in batches if batch.num_rows), None)
    try:
        return typed(first, reading).told if first is not None else {}
    except NOT_TEXT:  # who looks at all rows says where
        return {}


def _looked(lines: pa.Table) -> Looked:
    told, odd, many = dict[str, Told](), set[str](), False
    said_by_all = [json.loads(line) for line in lines["told"].to_pylist()]
    refuse_not_text([said["not_text"] for said in said_by_all if "not_text" in said])
    for said in said_by_all:
        told = _added(told, {column: Told(*counts) for column, counts in said["columns"].items()})
        many |= said["odd"] is None
        odd |= set(said["odd"] or [])
    files, times = (lines[name].drop_null().to_pylist() for name in ("file", "times"))
    return Looked(files, times, told, None if many or len(odd) > MOST_ODD_TIMES else odd)


def _added(told: dict[str, Told], more: dict[str, Told]) -> dict[str, Told]:
    return told | {c: Told(*np.add(told.get(c, NOTHING), counts).tolist()) for c, counts in more.items()}


def _looked_at(
    share: Share, schema: pa.Schema, reading: Reading, label: str, rules: BrokenRules | None, given: Exchange
) -> Iterator[dict[str, Any]]:
    told, odd, broken = dict[str, Told](), set[str](), rows_of(rules, share)

    def portions() -> Iterator[tuple[pa.Table, Keys]]:
        nonlocal told
        first = 0
        for batch in batches_of_share(share, schema, reading.columns):
            found = typed(batch, reading)
            told = _added(told, found.told)
            odd.update(found.odd)
            refusing, _ = broken.among(first, batch.num_rows)
            yield _moments(found, refusing, label), found.keys
            first += batch.num_rows

    try:
        line = _handed_over(portions(), given)
    except NOT_TEXT:
        place = not_text_in(batches_of_share(share, schema, [FILE, ROW, *reading.columns]))
        if place is None:
            raise
        yield _told_of(place)
        return
    said = {"columns": told, "odd": sorted(odd) if len(odd) <= MOST_ODD_TIMES else None}
    yield {**line, "told": json.dumps(said)}


def _told_of(not_text: Place) -> dict[str, Any]:
    return {"file": None, "times": None, "rows": 0, "told": json.dumps({"not_text": not_text})}


def _handed_over(portions: Iterable[tuple[pa.Table, Keys]], given: Exchange) -> dict[str, Any]:
    """Writes portions of moments, and how often each time comes in them; says where, and of how many rows."""
    rows, times = 0, list[pa.Table]()
    with given.writer() as writer:
        for moments, keys in portions:
            writer.write(moments, shares_of(keys, given.parts))
            counted = moments.group_by(TIME).aggregate([([], "count_all"), ("label", "count")])
            times.append(counted.select([TIME, "count_all", "label_count"]).rename_columns(list(TIMES)))
            rows += moments.num_rows
    file = f"{given.folder}/times-{uuid.uuid4().hex}.parquet" if times else None
    if file:
        write_parquet(_summed(pa.concat_tables(times)), file)
    return {"file": writer.file, "times": file, "rows": rows, "told": json.dumps({"columns": {}, "odd": []})}


def _moments(found: Typed, refusing: list[tuple[str, Truths]], label: str) -> pa.Table:
    refused, _ = held_against([*found.against, *refusing], len(found.micros))
    sensible = found.timed & (found.micros >= FIRST_MICROS) & (found.micros < LAST_MICROS)
    return pa.table({
        KEY: found.keys.texts.take(pa.array(found.keys.places)),
        TIME: pa.array(found.micros, mask=~sensible).cast(pa.timestamp("us")),
        "usable": pa.array(~refused),
        "label": pc.if_else(pa.array(refused), None, found.values[label]),
    })  # fmt: skip


def shares_of(keys: Keys, parts: int) -> Places:
    """For each row one of so many parts, the same for all rows of a segment."""
    return np.array([bucket_of(key, parts) for key in keys.texts.to_pylist()], np.int64)[keys.places]


def times_of(looked: Looked) -> pd.DataFrame:
    """The distinct times of all rows, with the rows and the usable labels at each: `time`, `rows`, `labels`.

    NaT stands for all rows without a sensible time. Of more than `MOST_PERIODS` times not all are told.
    """
    found = pa.table({name: pa.array([], type_) for name, type_ in TIMES.items()})
    for file in looked.times:
        found = _summed(pa.concat_tables([found, _parquet(file)]))
        if found.num_rows > MOST_PERIODS:
            break
    return found.to_pandas()


def _parquet(file: str) -> pa.Table:
    from pyarrow.parquet import read_table

    system, path = filesystem(file)
    return read_table(path, filesystem=system)


def _summed(times: pa.Table) -> pa.Table:
    summed = times.group_by("time").aggregate([("rows", "sum"), ("labels", "sum")])
    return summed.select(["time", "rows_sum", "labels_sum"]).rename_columns(list(TIMES))


def segment_facts(
    spark: Spark, looked: Looked, timeline: Timeline, recipe: Recipe, given: Exchange
) -> tuple[SegmentFacts, Description]:
    """Facts about the segments, and what people are shown, from the moments that were handed over."""
    question = question_of(timeline, recipe)
    work = partial(_counts_of_part, files=looked.files, question=question, timeline=timeline, given=given)
    lines = spread(spark, range(given.parts), work, COUNTED, short=True)
    described = [json.loads(line) for line in lines["described"].to_pylist()]
    samples = pa.concat_tables([SAMPLE.empty_table(), *map(_parquet, lines["sample"].to_pylist())])
    emptiest = emptiest_first(each for part in described for each in part["emptiest"])
    segments = sum(part["segments"] for part in described)
    description = Description(segments=segments, emptiest=emptiest, label=label_quantiles(samples, timeline))
    return facts_of(map(json.loads, lines["counts"].to_pylist()), question), description


def _counts_of_part(
    part: int, files: list[str], question: Question, timeline: Timeline, given: Exchange
) -> Iterator[dict[str, Any]]:
    rows = given.rows(files, part)
    if rows is None:
        return
    segments, emptiest = emptiest_of(rows)
    sample = f"{given.folder}/sample-{part}-{uuid.uuid4().hex}.parquet"
    write_parquet(sample_of(rows, timeline, given.parts), sample)
    yield {
        "counts": json.dumps(counts_of(rows.filter(pc.is_valid(rows[TIME])), question)),
        "described": json.dumps({"segments": segments, "emptiest": emptiest}),
        "sample": sample,
    }
