"""From the source to one immutable snapshot, and to what the snapshot is like."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assets.raw.parse import column_kinds
from assets.raw.profile import Profile, moments_of, profile_of
from assets.raw.recipe import Recipe, recipe_of, too_long
from assets.raw.segment_facts import mixed_frequencies, segment_facts, untrainable
from assets.raw.source import find_files, read_source, source_digest, unreadable
from assets.raw.timeless import inspect_without_time
from resources.lake import Lake, Table
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import Spark, literal_path, spark_errors

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

RAW = "raw"


@dataclass(frozen=True)
class Snapshot:
    """A committed version of the raw table; `is_new` is False when the source held the same bytes before."""

    version: int
    digest: str
    rows: int
    files: int
    is_new: bool
    profile: Profile


def ingest(lake: Lake, spark: Spark, settings: Settings) -> Snapshot:
    """Commits what the source holds as a snapshot, unless the last one holds the same.

    Raises:
        InputError: source or configuration unusable as a whole; nothing was written.
    """
    table = lake.table(RAW)
    record = table.record()
    _refuse_other_fleet(record, settings)
    files = find_files(settings)
    digest = source_digest(files, settings)
    if record.get("digest") != digest:
        return _commit_snapshot(lake, spark, settings, digest)
    version = table.version() or 0
    profile = snapshot_profile(lake, spark, settings)
    return Snapshot(version, digest, record["rows"], record["files"], False, profile)


def _commit_snapshot(lake: Lake, spark: Spark, settings: Settings, digest: str) -> Snapshot:
    from pyspark.sql.pandas.types import to_arrow_schema

    files, table = find_files(settings), lake.table(RAW)
    frame = read_source(spark.session(), files, settings)
    with table.staging() as staging:
        try:
            frame.write.parquet(staging.uri)
        except spark_errors() as error:
            raise unreadable(settings, error) from None
        staged = spark.session().read.schema(frame.schema).parquet(literal_path(staging.uri))
        profile, _ = inspect(staged, settings)
        record = {"digest": digest, "fleet": settings.name, "rows": profile.rows, "files": len(files.paths)}
        version = table.commit(staging, to_arrow_schema(frame.schema, timezone="UTC"), record)
    lake.write_file(_profile_file(digest, settings), profile.to_json().encode())
    return Snapshot(version, digest, profile.rows, len(files.paths), True, profile)


def inspect(raw: DataFrame, settings: Settings) -> tuple[Profile, Recipe]:
    """Profile and recipe of raw rows.

    Raises:
        InputError: nothing could be trained from them; every reason is listed.
    """
    kinds = column_kinds(raw, settings)
    if settings.time is None:
        return inspect_without_time(raw, settings, kinds)
    moments = moments_of(raw, settings, kinds).persist()
    try:
        profile = profile_of(moments, settings, kinds, dict(raw.dtypes)[settings.time])
        recipe = recipe_of(settings, profile)
        facts = segment_facts(moments, profile.times, recipe)
    finally:
        moments.unpersist()
    problems = (
        mixed_frequencies(facts, profile.times)
        or too_long(recipe, profile.times)
        or untrainable(facts.segments, facts.trainable, recipe)
    )
    if problems:
        raise InputError(problems)
    return profile, recipe


def snapshot_profile(lake: Lake, spark: Spark, settings: Settings) -> Profile:
    """The profile of the last snapshot for these columns, from the lake or made again.

    Raises:
        InputError: the snapshot cannot serve these columns.
        FileNotFoundError: nothing was ingested yet.
    """
    table = lake.table(RAW)
    digest = table.record().get("digest")
    if digest is None:
        raise FileNotFoundError("nothing was ingested yet: run the weekly cycle first")
    file = _profile_file(digest, settings)
    if known := lake.read_file(file):
        return Profile.from_json(known)
    profile, _ = inspect(read_snapshot(spark, table, settings), settings)
    lake.write_file(file, profile.to_json().encode())
    return profile


def read_snapshot(spark: Spark, table: Table, settings: Settings, version: int | None = None) -> DataFrame:
    """The rows of a snapshot (the last by default) as a Spark frame.

    Raises:
        InputError: it lacks columns that `fleet.yaml` names.
    """
    from assets.raw.source import LINEAGE, missing_columns

    frame = spark.session().read.parquet(*map(literal_path, table.files(version)))
    problems = missing_columns([c for c in frame.columns if c not in LINEAGE], settings, settings.columns)
    if problems:
        raise InputError(problems)
    return frame


def _profile_file(digest: str, settings: Settings) -> str:
    roles = settings.model_dump(
        exclude={"name", "schedule", "mlflow", "lake", "owner", "model", "fleet_model", "failures"}
    )
    text = json.dumps([digest, roles], sort_keys=True)
    return f"profiles/{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _refuse_other_fleet(record: dict[str, object], settings: Settings) -> None:
    owner = record.get("fleet", settings.name)
    if owner != settings.name:
        what = f"{settings.lake} belongs to the fleet {owner!r}"
        raise InputError([Problem("fleet.yaml lake", what, f"give {settings.name!r} a folder of its own")])
