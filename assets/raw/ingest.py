"""From the source to one immutable snapshot: what arrived is read once, what is there already is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from assets.raw.fetch import source_files, within_reach
from assets.raw.inspect import inspect, snapshot_profile, write_profile
from assets.raw.manifest import Manifest, following, read_manifest, write_manifest
from assets.raw.profile import Profile
from assets.raw.read import read_source, under_own_names, unreadable
from assets.raw.remote import named_by_spark
from assets.raw.snapshot import RAW, read_files
from assets.raw.source import (
    ARRIVED,
    FILE,
    PART,
    SourceFiles,
    contents_of,
    reader_digest,
    refuse_growing,
)
from assets.raw.text_files import refuse_unreadable_text
from resources.frames import save_frame
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.pruned import pruned, refuse_pruned
from resources.settings import Settings
from resources.spark import Spark, quoted, spark_errors
from resources.table import staged_files

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession


WIDER = {("integer", "long"), ("integer", "double"), ("long", "double"), ("float", "double")}


@dataclass(frozen=True)
class Snapshot:
    """A committed version of the raw table; `is_new` is False when the source held the same bytes before."""

    version: int
    digest: str
    rows: int
    files: int
    is_new: bool
    profile: Profile


def ingest(lake: Lake, spark: Spark, settings: Settings, snapshot: int | None = None) -> Snapshot:
    """Commits what the source holds as a snapshot, unless the last one holds the same; reads only files that are new.

    Rows of a file that changed or is gone are not in the new snapshot; earlier ones stay as they were. With `snapshot`
    the source is not looked at: that earlier snapshot becomes the newest one again.

    Raises:
        InputError: source or configuration unusable as a whole, or no such snapshot; nothing was written.
    """
    table = lake.table(RAW)
    _refuse_other_fleet(table.record(), settings)
    if snapshot is not None:
        return _restored(lake, spark, settings, snapshot)
    with source_files(settings) as files:
        return _ingest_files(lake, spark, settings, files)


def _ingest_files(lake: Lake, spark: Spark, settings: Settings, files: SourceFiles) -> Snapshot:
    table, base = lake.table(RAW), newest_ingested(lake)
    last = read_manifest(lake, table.record(base).get("digest")) if base is not None else None
    manifest, new = following(last, reader_digest(files, settings), contents_of(files))
    known = {record.get("digest"): version for version, record in reversed(_readable(lake).items())}
    if manifest.digest == table.record().get("digest"):
        return _current(lake, spark, settings)
    if manifest.digest in known:
        return _restored(lake, spark, settings, known[manifest.digest])
    with ExitStack() as reach:
        return _commit_snapshot(lake, spark, settings, files, _Change(base, last, manifest, new), reach)


@dataclass(frozen=True)
class _Change:
    """What a new snapshot is made of: the version it goes on from, its manifest, the new one, and the files to read."""

    base: int | None
    last: Manifest | None
    manifest: Manifest
    new: Sequence[str]

    @property
    def everything(self) -> _Change:
        """The same, with every file read."""
        return replace(self, new=sorted(self.manifest.files))

    @property
    def kept(self) -> list[str]:
        """Files whose rows stay as they are."""
        return sorted(set(self.manifest.files) - set(self.new))

    @property
    def replaced_parts(self) -> list[str]:
        """Parts of the raw table that the new snapshot has no more."""
        gone = [path for path in self.last.files if path not in self.kept] if self.last else []
        return self.last.parts(gone) if self.last else []


def newest_ingested(lake: Lake) -> int | None:
    """The newest snapshot that was read from the source, not brought back: what arrives next is added to it."""
    records = lake.table(RAW).records()
    return next((version for version, record in records.items() if "restored" not in record), None)


def _readable(lake: Lake) -> dict[int, dict[str, Any]]:
    """The records of the snapshots that were not pruned, newest first."""
    gone = pruned(lake, RAW)
    return {version: record for version, record in lake.table(RAW).records().items() if str(version) not in gone}


def _current(lake: Lake, spark: Spark, settings: Settings, is_new: bool = False) -> Snapshot:
    table = lake.table(RAW)
    record, version = table.record(), table.version() or 0
    profile = snapshot_profile(lake, spark, settings)
    return Snapshot(version, record["digest"], record["rows"], record["files"], is_new, profile)


def _restored(lake: Lake, spark: Spark, settings: Settings, version: int) -> Snapshot:
    table = lake.table(RAW)
    refuse_pruned(lake, RAW, str(version), "--snapshot")
    records = _readable(lake)
    if version not in records:
        known = ", ".join(map(str, sorted(records))) or "none yet"
        raise InputError([Problem("--snapshot", f"there is no snapshot {version}", f"known: {known}")])
    if records[version]["digest"] != table.record()["digest"]:
        table.restore(version, {**records[version], "restored": version})
    return _current(lake, spark, settings)


def _commit_snapshot(
    lake: Lake, spark: Spark, settings: Settings, files: SourceFiles, change: _Change, reach: ExitStack
) -> Snapshot:
    table, session = lake.table(RAW), spark.session()
    same_reader = change.last is not None and change.last.reader == change.manifest.reader
    now, before = table.version(), table.schema(change.base) if same_reader else None
    near = reach.enter_context(within_reach(session, _chosen(files, change.new)))
    fresh = _fresh_rows(session, near, settings, before)
    if before is not None and change.kept and _retyped(fresh, before):
        change = change.everything
        near = reach.enter_context(within_reach(session, _chosen(files, change.new)))
        fresh = _fresh_rows(session, near, settings, before)
    part_of = _parts(session, near, change)
    schema = _schema_of(fresh, before if change.kept else None)
    with table.staging() as staging:
        try:
            _write(fresh, staging.uri, part_of, change)
        except spark_errors() as error:
            raise unreadable(settings, error) from None
        refuse_growing(files)
        parts = [(PART, "in", change.manifest.parts(change.kept))]
        kept = table.files(change.base, where=parts) if change.kept else []
        staged = [f"{staging.uri}/{file}" for file in staged_files(staging)]
        whole = read_files(spark, schema, [*kept, *staged])
        profile, _ = inspect(under_own_names(whole, settings.contract), settings)
        manifest = _with_parts(change, part_of)
        write_manifest(lake, manifest)
        record = {"digest": manifest.digest, "fleet": settings.name, "rows": profile.rows, "files": len(manifest.files)}
        record["new_files"], record["arrival"] = len(change.new), max(f.arrived for f in manifest.files.values())
        replacing = change.replaced_parts if change.kept else None
        if change.kept and change.base is not None and change.base != now:
            now = table.restore(change.base, table.record(change.base))
        version = table.commit(staging, schema, record, partition_by=[PART], replacing=replacing, after=now)
    write_profile(lake, settings, manifest.digest, profile)
    return Snapshot(version, manifest.digest, profile.rows, len(manifest.files), True, profile)


def _chosen(files: SourceFiles, relative: Sequence[str]) -> SourceFiles:
    """Those of some files that are named by their paths under the source's root."""
    new = set(relative)
    places = [n for n, path in enumerate(files.paths) if path[len(files.root) :] in new]
    paths, stamps = tuple(files.paths[n] for n in places), tuple(files.stamps[n] for n in places)
    return replace(files, paths=paths, stamps=stamps)


def _fresh_rows(session: SparkSession, near: SourceFiles, settings: Settings, before: pa.Schema | None) -> DataFrame:
    if not near.paths:
        assert before is not None, "a source without files is refused"
        return session.createDataFrame([], _spark_schema(before)).drop(PART, ARRIVED)
    refuse_unreadable_text(near, settings)
    fresh = read_source(session, near, settings, before=before)
    return fresh if before is None else _as_wide(fresh, before)


def _as_wide(fresh: DataFrame, before: pa.Schema) -> DataFrame:
    """New rows with numbers as wide as in the last snapshot: pandas writes 1.0 for 1 where another row is empty."""
    from pyspark.sql import functions as F

    types = {field.name: field.dataType for field in _spark_schema(before)}
    wider = {
        field.name: types[field.name]
        for field in fresh.schema
        if field.name in types and (field.dataType.typeName(), types[field.name].typeName()) in WIDER
    }
    return fresh.withColumns({name: F.col(quoted(name)).cast(type_) for name, type_ in wider.items()})


@dataclass(frozen=True)
class _Part:
    """Where the rows of a file go: its name as Spark has it, the part of the raw table, the name that is kept."""

    named: str
    part: str
    kept_as: str


def _parts(session: SparkSession, near: SourceFiles, change: _Change) -> dict[str, _Part]:
    found = {}
    for path in near.paths:
        relative = path[len(near.root) :]
        named = named_by_spark(session, near.uri_of(path))
        part = hashlib.sha256(f"{change.manifest.files[relative].arrived} {relative}".encode()).hexdigest()[:16]
        found[relative] = _Part(named, part, named if near.shown is None else near.shown + relative)
    return found


def _with_parts(change: _Change, part_of: dict[str, _Part]) -> Manifest:
    fresh = {p: change.manifest.files[p].model_copy(update={"part": part_of[p].part}) for p in change.new}
    return change.manifest.model_copy(update={"files": {**change.manifest.files, **fresh}})


def _write(fresh: DataFrame, uri: str, part_of: dict[str, _Part], change: _Change) -> None:
    """Writes new rows, those of each file in a part of its own, so that a later change of the file replaces them."""
    from pyspark.sql import functions as F

    rows = [
        (part_of[p].named, part_of[p].part, part_of[p].kept_as, change.manifest.files[p].arrived) for p in change.new
    ]
    if len(rows) == 1:
        ((_, part, kept_as, arrived),) = rows
        placed = fresh.withColumns({FILE: F.lit(kept_as), ARRIVED: F.lit(arrived)})
        save_frame(placed, f"{uri}/{PART}={part}")
    elif rows:
        parts = fresh.sparkSession.createDataFrame(
            rows, f"{FILE} string, {PART} string, __kept_as string, {ARRIVED} int"
        )
        unknown = F.raise_error(F.concat(F.lit("rows of a file that was not listed: "), F.col(FILE)))
        placed = fresh.join(F.broadcast(parts), FILE, "left")
        placed = placed.withColumns({PART: F.coalesce(PART, unknown), FILE: F.col("__kept_as")}).drop("__kept_as")
        save_frame(placed, uri, partition_by=PART)


def _schema_of(fresh: DataFrame, before: pa.Schema | None) -> pa.Schema:
    """Columns of the new snapshot: those of the last one first, then those that are new."""
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema

    found = [pa.field(field.name, field.type) for field in to_arrow_schema(fresh.schema, timezone="UTC")]
    found += [pa.field(ARRIVED, pa.int32()), pa.field(PART, pa.string())]
    known = list(before) if before is not None else []
    names = {field.name for field in known}
    return pa.schema([*known, *(field for field in found if field.name not in names)])


def _spark_schema(schema: pa.Schema) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)


def _retyped(fresh: DataFrame, before: pa.Schema) -> bool:
    """Whether a column of new rows has another type than in the last snapshot, so that the two do not lie together."""
    types = {field.name: field.dataType for field in _spark_schema(before)}
    return any(types.get(field.name, field.dataType) != field.dataType for field in fresh.schema)


def _refuse_other_fleet(record: dict[str, object], settings: Settings) -> None:
    owner = record.get("fleet", settings.name)
    if owner != settings.name:
        what = f"{settings.lake} belongs to the fleet {owner!r}"
        raise InputError([Problem("fleet.yaml lake", what, f"give {settings.name!r} a folder of its own")])
