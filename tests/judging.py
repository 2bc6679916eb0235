"""The rows of a table judged: those that are valid, those that are refused, and how many rows say what."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema

from assets.features.contract import BUCKET, Counts, judged_rows
from assets.features.placed import Placed, Placing, place_frame, place_plain
from assets.features.resolved import is_usable
from assets.features.settled import decided
from assets.raw.kinds import times_told
from assets.raw.parse import KEY, NOTED, PERIOD, REASONS, SOURCE
from assets.raw.plain import is_plain
from assets.raw.profile import Profile
from assets.raw.snapshot import RawRows
from assets.raw.source import ARRIVED, FILE, PART, ROW
from assets.raw.typed import Reading
from resources.exchange import Exchange, exchange
from resources.frames import save_frame
from resources.settings import Settings
from resources.spark import Spark
from resources.table import Staging, rows_in, staged_files

PARTS = 2


@dataclass
class Judged:
    """Valid rows with what features look at; refused ones as the quarantine has them; counts."""

    valid: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    counts: Counts


def judged(spark: Spark, raw: DataFrame, settings: Settings, profile: Profile, buckets: int) -> Judged:
    """Every way of judging rows, which must say the same; each row is valid or refused."""
    folder = Path(tempfile.mkdtemp(prefix="judged_"))
    try:
        rows = kept(raw, folder / "raw")
        by_frame = of_frame(spark, rows, settings, profile, buckets)
        found = [by_frame, handed(spark, rows, None, settings, profile, buckets, folder)]
        if is_plain(rows.schema, settings):
            reading = reading_of(spark, rows, settings, profile)
            found.append(handed(spark, rows, reading, settings, profile, buckets, folder))
    finally:
        shutil.rmtree(folder)
    for other in found[1:]:
        for mine, theirs in ((other.valid, by_frame.valid), (other.refused, by_frame.refused)):
            differing = [pair for pair in zip(mine, theirs, strict=False) if pair[0] != pair[1]]
            assert not differing, [
                (name, a[name], b[name]) for a, b in differing[:3] for name in a if a[name] != b[name]
            ]
        assert other == by_frame
    counted = by_frame.counts.by_reason
    assert sum(counted.values()) == rows.rows
    assert counted.get("", 0) == len(by_frame.valid)
    assert sum(counted.values()) - counted.get("", 0) == len(by_frame.refused)
    return by_frame


def kept(raw: DataFrame, folder: Path) -> RawRows:
    """Raw rows as the raw table has them."""
    from pyspark.sql import functions as F

    arrived = raw if ARRIVED in raw.columns else raw.withColumn(ARRIVED, F.lit(1))
    save_frame(arrived, str(folder))
    staging = Staging(str(folder.parent), folder.name)
    files = {f"{staging.uri}/{file}": rows_in(staging, file) for file in staged_files(staging)}
    schema = to_arrow_schema(arrived.schema, timezone="UTC")
    return RawRows(schema.append(pa.field(PART, pa.string())), files)


def reading_of(spark: Spark, rows: RawRows, settings: Settings, profile: Profile) -> Reading:
    """How workers read the rows, every text of a time told by Spark."""
    texts = set()
    if rows.schema.field(settings.time).type == pa.string():
        column = rows.frame(spark, settings).select(f"`{settings.time}`").distinct().collect()
        texts = {text for (cell,) in column if (text := (cell or "").strip(" "))}
    return Reading.of(settings, profile.kinds, times_told(spark, texts, settings))


def of_frame(spark: Spark, rows: RawRows, settings: Settings, profile: Profile, buckets: int) -> Judged:
    frame = judged_rows(rows.frame(spark, settings), settings, profile, buckets)
    names = [*placing_of(settings, profile, buckets).columns]
    found = frame.toArrow()
    usable = is_usable(found)
    valid, refused = found.filter(pa.array(usable)), found.filter(pa.array(~usable))
    by_reason: dict[str, int] = {"": valid.num_rows} if valid.num_rows else {}
    for reasons in refused[REASONS].to_pylist():
        by_reason[reasons[0]] = by_reason.get(reasons[0], 0) + 1
    by_rule: dict[str, int] = {}
    for name in [name for column in (REASONS, NOTED) for names_ in found[column].to_pylist() for name in names_]:
        by_rule[name] = by_rule.get(name, 0) + 1
    return Judged(sorted_rows(valid.select(names)), quarantine(refused), Counts(by_reason, by_rule))


def placing_of(settings: Settings, profile: Profile, buckets: int) -> Placing:
    inputs = [settings.label, *(column for column in profile.kinds if column != settings.label)]
    return Placing(profile.to_json(), buckets, settings.segment, inputs)


def handed(
    spark: Spark,
    rows: RawRows,
    reading: Reading | None,
    settings: Settings,
    profile: Profile,
    buckets: int,
    folder: Path,
) -> Judged:
    placing = placing_of(settings, profile, buckets)
    with exchange(str(folder), PARTS) as given:
        if reading is None:
            placed = place_frame(spark, rows, settings, placing, given)
        else:
            placed = place_plain(spark, rows, settings, reading, placing, given)
        return together([part_of(placed, placing, given, part) for part in range(PARTS)])


def part_of(placed: Placed, placing: Placing, given: Exchange, part: int) -> Judged:
    """What is decided of a part."""
    good, told = given.rows(placed.good, part), given.rows(placed.told, part)
    if good is None and told is None:
        return Judged([], [], Counts({}, {}))
    found = decided(good, told, placing)
    mine = {n for n in range(placing.buckets) if n * PARTS // placing.buckets == part}
    assert set(found.valid[BUCKET].to_pylist()) <= mine
    return Judged(sorted_rows(found.valid), quarantine(found.refused), found.counts)


def together(parts: list[Judged]) -> Judged:
    counts = Counts({}, {})
    for part in parts:
        for mine, theirs in zip(counts, part.counts, strict=True):
            for name, rows in theirs.items():
                mine[name] = mine.get(name, 0) + rows
    valid = sorted((row for part in parts for row in part.valid), key=by_key)
    return Judged(valid, sorted((row for part in parts for row in part.refused), key=by_place), counts)


def quarantine(refused: pa.Table) -> list[dict[str, Any]]:
    """Refused rows as they are kept, by where they came from."""
    if not refused.num_rows:
        return []
    rows = refused.select([REASONS, KEY, FILE, ROW, ARRIVED, SOURCE]).to_pylist()
    whole = ({"__reason": row[REASONS][0], **row.pop(SOURCE), **row} for row in rows)
    return sorted(map(comparable, whole), key=by_place)


def sorted_rows(rows: pa.Table) -> list[dict[str, Any]]:
    return sorted(map(comparable, rows.to_pylist()), key=by_key)


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    """The row with NaN as a text, which equals itself."""
    return {name: "NaN" if value != value else value for name, value in row.items()}


def by_key(row: dict[str, Any]) -> tuple[str, int, str]:
    return row[KEY], row[PERIOD], str(sorted(row.items()))  # where nobody looks for duplicates there may be some


def by_place(row: dict[str, Any]) -> tuple[str, int]:
    return row[FILE], row[ROW]
