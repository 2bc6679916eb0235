"""Rows of files that are new, on their way into the raw table: by workers where files are plain, else by Spark."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assets.raw.layout import layouts_of
from assets.raw.manifest import SourceFile
from assets.raw.plain_csv import Target, write_plain_csv
from assets.raw.read import read_source, unreadable
from assets.raw.remote import named_by_spark
from assets.raw.source import ARRIVED, FILE, PART, SourceFiles
from assets.raw.text_files import known_encoding, refuse_unreadable_text
from resources.frames import save_frame
from resources.problems import InputError
from resources.settings import Settings
from resources.spark import Spark, quoted, spark_errors
from resources.spread import Say
from resources.table import Staging, rows_in, staged_files

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

BY_SPARK = "by_spark"  # a folder of its own, which Spark wants to make
WIDER = {("integer", "long"), ("integer", "double"), ("long", "double"), ("float", "double")}


@dataclass(frozen=True)
class Place:
    """Where the rows of a file go: its name as Spark has it, the part of the raw table, the name that is kept.

    `arrived` is the number of the arrival that it came with.
    """

    named: str
    part: str
    kept_as: str
    arrived: int


def places_of(session: SparkSession, near: SourceFiles, known: Mapping[str, SourceFile]) -> dict[str, Place]:
    """Where the rows of some files go, by their paths; `known` has them by their paths under the source's root."""
    found = {}
    for path in near.paths:
        relative = path[len(near.root) :]
        named, arrived = named_by_spark(session, near.uri_of(path)), known[relative].arrived
        part = hashlib.sha256(f"{arrived} {relative}".encode()).hexdigest()[:16]
        found[path] = Place(named, part, named if near.shown is None else near.shown + relative, arrived)
    return found


def new_rows(session: SparkSession, near: SourceFiles, settings: Settings, before: pa.Schema | None) -> DataFrame:
    """The rows of some files as Spark reads them, with numbers as wide as they were in the last snapshot.

    Raises:
        InputError: see `read_source`; or files are not in the encoding that they are read in.
    """
    if not near.paths:
        assert before is not None, "a source without files is refused"
        return session.createDataFrame([], spark_schema(before)).drop(PART, ARRIVED)
    known_encoding(near, settings)
    try:
        fresh = read_source(session, near, settings, before=before)
    except InputError:
        refuse_unreadable_text(near, settings)  # columns may be unknown only because the text is
        raise
    return fresh if before is None else _as_wide(fresh, before)


def _as_wide(fresh: DataFrame, before: pa.Schema) -> DataFrame:
    """New rows with numbers as wide as in the last snapshot: pandas writes 1.0 for 1 where another row is empty."""
    from pyspark.sql import functions as F

    types = {field.name: field.dataType for field in spark_schema(before)}
    wider = {
        field.name: types[field.name]
        for field in fresh.schema
        if field.name in types and (field.dataType.typeName(), types[field.name].typeName()) in WIDER
    }
    return fresh.withColumns({name: F.col(quoted(name)).cast(type_) for name, type_ in wider.items()})


def spark_schema(schema: pa.Schema) -> Any:
    """Columns as Spark has them."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)


def write_new_rows(
    spark: Spark,
    near: SourceFiles,
    settings: Settings,
    before: pa.Schema | None,
    places: Mapping[str, Place],
    staging: Staging,
    fresh: DataFrame,
    say: Say | None,
) -> dict[str, int]:
    """Writes the rows of some files, each in a part of its own, so that a later change of the file replaces them.

    `fresh` are the rows as Spark reads them, of which those of plain files are not asked for. Gives the files written,
    relative to the staging folder, and how many rows each holds.

    Raises:
        InputError: a file cannot be read.
    """
    targets = {
        path: Target(f"{staging.uri}/{PART}={place.part}", place.kept_as, place.arrived)
        for path, place in places.items()
    }
    plain = write_plain_csv(spark, near, settings, layouts_of(near, settings), fresh.columns, targets, say)
    rest = near.chosen(path for path in near.paths if path not in plain)
    if rest.paths:
        refuse_unreadable_text(rest, settings)
        try:
            left = new_rows(spark.session(), rest, settings, before) if plain else fresh
            _write_by_spark(left, f"{staging.uri}/{BY_SPARK}", [places[path] for path in rest.paths])
        except spark_errors() as error:
            raise unreadable(settings, error) from None
    theirs = {file for file in staged_files(staging) if file.startswith(f"{BY_SPARK}/")}
    ours = {file.removeprefix(f"{staging.uri}/") for file in plain.values() if file}
    return {file: rows_in(staging, file) for file in sorted(theirs | ours)}


def _write_by_spark(fresh: DataFrame, uri: str, places: Sequence[Place]) -> None:
    from pyspark.sql import functions as F

    if len(places) == 1:
        (only,) = places
        placed = fresh.withColumns({FILE: F.lit(only.kept_as), ARRIVED: F.lit(only.arrived)})
        save_frame(placed, f"{uri}/{PART}={only.part}")
        return
    rows = [(place.named, place.part, place.kept_as, place.arrived) for place in places]
    listed = fresh.sparkSession.createDataFrame(rows, f"{FILE} string, {PART} string, __kept_as string, {ARRIVED} int")
    unknown = F.raise_error(F.concat(F.lit("rows of a file that was not listed: "), F.col(FILE)))
    placed = fresh.join(F.broadcast(listed), FILE, "left")
    placed = placed.withColumns({PART: F.coalesce(PART, unknown), FILE: F.col("__kept_as")}).drop("__kept_as")
    save_frame(placed, uri, partition_by=PART)
