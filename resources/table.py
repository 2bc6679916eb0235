"""A committed table of the lake, in Delta Lake's format.

Writers put new files in a staging folder and then commit them in one step; readers see only what was
committed, so a crash leaves nothing half done. Format: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from resources.files import discard, filesystem, is_hidden, missing_folders, storage_options
from resources.problems import InputError, Problem

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable, PostCommitHookProperties
    from deltalake.transaction import AddAction, CommitProperties

RECORD = "fleet.record"
NO_ZONE = "timestampNtz"


@dataclass(frozen=True)
class Staging:
    """A folder of a table that nobody reads until its files are committed."""

    table_uri: str
    folder: str

    @property
    def uri(self) -> str:
        """Where a writer puts its Parquet files (Hive layout `column=value/` for partitions)."""
        return f"{self.table_uri}/{self.folder}"


@dataclass(frozen=True)
class Table:
    """One committed table of the lake."""

    uri: str

    def exists(self) -> bool:
        """Whether anything was ever committed."""
        return self._delta() is not None

    def version(self) -> int | None:
        """Number of the last commit, None before the first."""
        delta = self._delta()
        return delta.version() if delta else None

    def record(self, version: int | None = None) -> dict[str, Any]:
        """What the writer said of a commit (the last by default); empty before the first."""
        delta = self._delta()
        if delta is None:
            return {}
        wanted = delta.version() if version is None else version
        commit: dict[str, Any] = next((entry for entry in delta.history() if entry["version"] == wanted), {})
        return json.loads(commit.get(RECORD, "{}"))

    def records(self) -> dict[int, dict[str, Any]]:
        """The record of every commit by version, newest first."""
        delta = self._delta()
        history = delta.history() if delta else []
        return {entry["version"]: json.loads(entry.get(RECORD, "{}")) for entry in history}

    def files(self, version: int | None = None, where: Sequence[tuple[str, str, Any]] | None = None) -> list[str]:
        """URIs of the files of a version; `where` filters on partition columns."""
        delta = self._delta(version)
        if delta is None:
            return []
        # deltalake percent-encodes the table's own path, even of a local folder
        root = delta.table_uri.removeprefix("file://").rstrip("/")
        return sorted(self.uri + uri.removeprefix(root) for uri in delta.file_uris(list(where) if where else None))

    def rows_by_file(self, version: int | None = None) -> dict[str, int]:
        """How many rows each file of a version holds, by its URI, from the commit log without reading a file."""
        delta = self._delta(version)
        if delta is None:
            return {}
        paths, rows = _column(delta, "path").to_pylist(), _column(delta, "num_records").to_pylist()
        return {f"{self.uri}/{unquote(path)}": many for path, many in zip(paths, rows, strict=True)}

    def arrow(
        self,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        where: Sequence[tuple[str, str, Any]] | None = None,
    ) -> pa.Table:
        """Rows of a version, partition columns included.

        Raises:
            FileNotFoundError: nothing was committed yet.
        """
        delta = self._delta(version)
        if delta is None:
            raise FileNotFoundError(f"{self.uri} holds no committed table")
        dataset = delta.to_pyarrow_dataset(partitions=list(where) if where else None)
        return dataset.to_table(columns=list(columns) if columns else None)

    def head(self, rows: int, version: int | None = None) -> pa.Table:
        """The first rows of a version."""
        delta = self._delta(version)
        if delta is None:
            raise FileNotFoundError(f"{self.uri} holds no committed table")
        return delta.to_pyarrow_dataset().head(rows)

    def row_count(self, version: int | None = None) -> int:
        """Rows of a version, counted from the commit log without reading a file."""
        import pyarrow.compute as pc

        delta = self._delta(version)
        return 0 if delta is None else pc.sum(_column(delta, "num_records")).as_py() or 0

    def schema(self, version: int | None = None) -> pa.Schema:
        """Columns and types of a version.

        Raises:
            FileNotFoundError: nothing was committed yet.
        """
        import pyarrow as pa

        delta = self._delta(version)
        if delta is None:
            raise FileNotFoundError(f"{self.uri} holds no committed table")
        return pa.schema(delta.schema().to_arrow())

    @contextmanager
    def staging(self) -> Iterator[Staging]:
        """A fresh staging folder, removed again unless its files were committed."""
        staging = Staging(self.uri, f"data-{uuid.uuid4().hex}")
        new_folders = missing_folders(self.uri)
        try:
            yield staging
        except BaseException:
            if not any(f"/{staging.folder}/" in file for file in self.files()):
                discard(staging.uri, new_folders)
            raise

    def commit(
        self,
        staging: Staging,
        schema: pa.Schema,
        record: dict[str, Any],
        *,
        mode: Literal["overwrite", "append"] = "overwrite",
        partition_by: Sequence[str] = (),
        files: Iterable[str] | None = None,
        replacing: Sequence[str] | None = None,
        after: int | None = None,
    ) -> int:
        """Makes the staged files (all, or the named ones) visible at once and gives the new version.

        With `replacing` they take the place of those partitions (values of the one partition column) only, and the
        other rows stay; columns that are new are null in them. With `after` it must be the version that comes after it.

        Raises:
            InputError: another version came `after` that one meanwhile.
        """
        from deltalake import Schema

        if after is not None and self.version() != after:
            raise InputError([Problem(self.uri, "another run committed to it meanwhile", "run again")])
        adds = [_add_action(staging, path) for path in (files if files is not None else staged_files(staging))]
        if mode == "append" and self.exists():
            self._add_columns(schema)
        if replacing is None:
            return self._publish(adds, Schema.from_arrow(schema), mode, list(partition_by), record)
        self._add_columns(schema)
        filters = [(column, "in", list(replacing)) for column in partition_by] if replacing else None
        self._write(
            adds, "overwrite" if replacing else "append", Schema.from_arrow(schema), partition_by, record, filters
        )
        return self.version() or 0

    def restore(self, version: int, record: dict[str, Any]) -> int:
        """Makes an earlier version the newest one again, under a number of its own, which it gives."""
        delta = self._delta()
        assert delta is not None, "asked of tables with versions"
        self._allow_what(version, delta)
        (self._delta() or delta).restore(
            version, commit_properties=_properties(record), post_commithook_properties=_hooks()
        )
        return self.version() or 0

    def _allow_what(self, version: int, delta: DeltaTable) -> None:
        """Lets the table have times without zone again, which an overwrite by a table without them took away."""
        from deltalake import TableFeatures

        then = self._delta(version)
        wanted = (then.protocol().reader_features or []) if then else []
        if NO_ZONE in set(wanted) - set(delta.protocol().reader_features or []):
            delta.alter.add_feature(
                TableFeatures.TimestampWithoutTimezone,
                allow_protocol_versions_increase=True,
                commit_properties=_properties(self.record()),
                post_commithook_properties=_hooks(),
            )

    def _add_columns(self, schema: pa.Schema) -> None:
        from deltalake import Schema

        delta = self._delta()
        assert delta is not None, "asked of tables with versions"
        known = {field.name for field in delta.schema().fields}
        if new := [field for field in Schema.from_arrow(schema).fields if field.name not in known]:
            properties = _properties(self.record())
            delta.alter.add_columns(new, commit_properties=properties, post_commithook_properties=_hooks())

    def _write(
        self,
        adds: list[AddAction],
        mode: Literal["overwrite", "append"],
        schema: Any,
        partition_by: Sequence[str],
        record: dict[str, Any],
        filters: list[tuple[str, str, Any]] | None = None,
    ) -> None:
        delta = self._delta()
        assert delta is not None, "asked of tables with versions"
        delta.create_write_transaction(
            adds,
            mode=mode,
            schema=schema,
            partition_by=list(partition_by),
            partition_filters=filters,
            commit_properties=_properties(record),
            post_commithook_properties=_hooks(),
        )

    def _publish(
        self,
        adds: list[AddAction],
        schema: Any,
        mode: Literal["overwrite", "append"],
        partition_by: list[str],
        record: dict[str, Any],
    ) -> int:
        from deltalake.transaction import create_table_with_add_actions

        delta = self._delta()
        if delta is None or (mode == "overwrite" and delta.schema() != schema):
            create_table_with_add_actions(
                self.uri,
                schema,
                adds,
                mode="error" if delta is None else "overwrite",
                partition_by=partition_by,
                commit_properties=_properties(record),
                post_commithook_properties=_hooks(),
                storage_options=storage_options(self.uri),
            )
        else:
            self._write(adds, mode, schema, partition_by, record)
        return self.version() or 0

    def _delta(self, version: int | None = None) -> DeltaTable | None:
        from deltalake import DeltaTable

        options = storage_options(self.uri)
        if not DeltaTable.is_deltatable(self.uri, options):
            return None
        return DeltaTable(self.uri, version=version, storage_options=options)


def staged_files(staging: Staging) -> list[str]:
    """Parquet files under a staging folder, relative to it, sorted."""
    import pyarrow.fs as pafs

    system, root = filesystem(staging.uri)
    found = system.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    relative = [info.path[len(root) :].lstrip("/") for info in found if info.is_file]
    return sorted(path for path in relative if path.endswith(".parquet") and not is_hidden(path))


def rows_in(staging: Staging, relative: str) -> int:
    """How many rows a staged file holds."""
    from pyarrow.parquet import read_metadata

    system, path = filesystem(f"{staging.uri}/{relative}")
    with system.open_input_file(path) as file:
        rows: int = read_metadata(file).num_rows
    return rows


def _properties(record: dict[str, Any]) -> CommitProperties:
    from deltalake.transaction import CommitProperties

    return CommitProperties(custom_metadata={RECORD: json.dumps(record)})


def _hooks() -> PostCommitHookProperties:
    """Old log entries stay after every commit, so that no version loses its number or its record."""
    from deltalake import PostCommitHookProperties

    return PostCommitHookProperties(cleanup_expired_logs=False)


def _column(delta: DeltaTable, name: str) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.table(delta.get_add_actions(flatten=True))[name]


def _add_action(staging: Staging, relative: str) -> AddAction:
    from deltalake.transaction import AddAction
    from pyarrow.parquet import read_metadata

    system, path = filesystem(f"{staging.uri}/{relative}")
    with system.open_input_file(path) as file:
        rows, size = read_metadata(file).num_rows, file.size()
    partitions = [part.split("=", 1) for part in relative.split("/")[:-1] if "=" in part]
    return AddAction(
        f"{staging.folder}/{relative}",  # deltalake encodes it
        size,
        {key: unquote(value) for key, value in partitions},
        int(time.time() * 1000),
        True,
        json.dumps({"numRecords": rows}),
    )
