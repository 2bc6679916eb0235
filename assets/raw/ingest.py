"""From the source to one immutable snapshot: what arrived is read once, what is there already is kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from assets.raw.fetch import source_files, within_reach
from assets.raw.inspect import inspect, keep_inspected, snapshot_profile
from assets.raw.manifest import Manifest, following, read_manifest, write_manifest
from assets.raw.new_rows import new_rows, places_of, spark_schema, write_new_rows
from assets.raw.profile import Profile
from assets.raw.snapshot import RAW, RawRows
from assets.raw.source import ARRIVED, PART, SourceFiles, contents_of, reader_digest, refuse_growing
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.pruned import pruned, refuse_pruned
from resources.settings import Settings
from resources.spark import Spark
from resources.spread import Say
from resources.table import Table

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Snapshot:
    """A committed version of the raw table; `is_new` is False when the source held the same bytes before."""

    version: int
    digest: str
    rows: int
    files: int
    is_new: bool
    profile: Profile


def ingest(
    lake: Lake, spark: Spark, settings: Settings, snapshot: int | None = None, say: Say | None = None
) -> Snapshot:
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
        return _ingest_files(lake, spark, settings, files, say)


def _ingest_files(lake: Lake, spark: Spark, settings: Settings, files: SourceFiles, say: Say | None) -> Snapshot:
    table, base = lake.table(RAW), newest_ingested(lake)
    last = read_manifest(lake, table.record(base).get("digest")) if base is not None else None
    manifest, new = following(last, reader_digest(files, settings), contents_of(files))
    known = {record.get("digest"): version for version, record in reversed(_readable(lake).items())}
    if manifest.digest == table.record().get("digest"):
        return _current(lake, spark, settings)
    if manifest.digest in known:
        return _restored(lake, spark, settings, known[manifest.digest])
    with ExitStack() as reach:
        return _commit_snapshot(lake, spark, settings, files, _Change(base, last, manifest, new), reach, say)


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
    lake: Lake,
    spark: Spark,
    settings: Settings,
    files: SourceFiles,
    change: _Change,
    reach: ExitStack,
    say: Say | None,
) -> Snapshot:
    table, session = lake.table(RAW), spark.session()
    same_reader = change.last is not None and change.last.reader == change.manifest.reader
    now, before = table.version(), table.schema(change.base) if same_reader else None
    near, fresh = _read(session, files, change, settings, before, reach)
    if before is not None and change.kept and _retyped(fresh, before):
        change = change.everything
        near, fresh = _read(session, files, change, settings, before, reach)
    places = places_of(session, near, change.manifest.files)
    schema = _schema_of(fresh, before if change.kept else None)
    with table.staging() as staging:
        staged = write_new_rows(spark, near, settings, before, places, staging, fresh, say)
        refuse_growing(files)
        rows = {f"{staging.uri}/{file}": many for file, many in staged.items()}
        whole = RawRows(schema, {**_kept_rows(table, change), **rows})
        part_of = {path[len(near.root) :]: place.part for path, place in places.items()}
        manifest = _with_parts(change, part_of)
        found = inspect(spark, whole, settings, manifest.digest, say)
        profile = found.profile
        write_manifest(lake, manifest)
        record = {"digest": manifest.digest, "fleet": settings.name, "rows": profile.rows, "files": len(manifest.files)}
        record["new_files"], record["arrival"] = len(change.new), max(f.arrived for f in manifest.files.values())
        replacing = change.replaced_parts if change.kept else None
        if change.kept and change.base is not None and change.base != now:
            now = table.restore(change.base, table.record(change.base))
        version = table.commit(
            staging, schema, record, partition_by=[PART], files=list(staged), replacing=replacing, after=now
        )
    keep_inspected(lake, settings, manifest.digest, found)
    return Snapshot(version, manifest.digest, profile.rows, len(manifest.files), True, profile)


def _read(
    session: SparkSession,
    files: SourceFiles,
    change: _Change,
    settings: Settings,
    before: pa.Schema | None,
    reach: ExitStack,
) -> tuple[SourceFiles, DataFrame]:
    """The files that are new, where Spark can read them, and their rows."""
    new = {files.root + path for path in change.new}
    near = reach.enter_context(within_reach(session, files.chosen(new)))
    return near, new_rows(session, near, settings, before)


def _kept_rows(table: Table, change: _Change) -> dict[str, int]:
    """The files of the raw table that stay, with the rows of each."""
    if not change.kept:
        return {}
    stay = table.files(change.base, where=[(PART, "in", change.manifest.parts(change.kept))])
    rows = table.rows_by_file(change.base)
    return {file: rows[file] for file in stay}


def _with_parts(change: _Change, part_of: dict[str, str]) -> Manifest:
    fresh = {p: change.manifest.files[p].model_copy(update={"part": part_of[p]}) for p in change.new}
    return change.manifest.model_copy(update={"files": {**change.manifest.files, **fresh}})


def _schema_of(fresh: DataFrame, before: pa.Schema | None) -> pa.Schema:
    """Columns of the new snapshot: those of the last one first, then those that are new."""
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema

    found = [pa.field(field.name, field.type) for field in to_arrow_schema(fresh.schema, timezone="UTC")]
    found += [pa.field(ARRIVED, pa.int32()), pa.field(PART, pa.string())]
    known = list(before) if before is not None else []
    names = {field.name for field in known}
    return pa.schema([*known, *(field for field in found if field.name not in names)])


def _retyped(fresh: DataFrame, before: pa.Schema) -> bool:
    """Whether a column of new rows has another type than in the last snapshot, so that the two do not lie together."""
    types = {field.name: field.dataType for field in spark_schema(before)}
    return any(types.get(field.name, field.dataType) != field.dataType for field in fresh.schema)


def _refuse_other_fleet(record: dict[str, object], settings: Settings) -> None:
    owner = record.get("fleet", settings.name)
    if owner != settings.name:
        what = f"{settings.lake} belongs to the fleet {owner!r}"
        raise InputError([Problem("fleet.yaml lake", what, f"give {settings.name!r} a folder of its own")])
