"""Old versions that nothing references any more: found, counted, and removed when asked to.

A file goes only if no kept version lists it. Commit logs stay, so that version numbers do. A prune that dies on the way
leaves files that nothing references, and the next one removes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from assets.evaluation.incumbent import CHAMPIONS, PUBLISHED
from assets.features.publish import FEATURES
from assets.models.shard import BOOSTERS
from assets.models.store import MODELS, PRUNED, TRAINING
from assets.raw.inspect import profile_file
from assets.raw.plain import TIMES_FOLDER, times_file
from assets.raw.snapshot import RAW
from orchestration.kept import VERSIONED, Kept, kept_of
from resources.exchange import EXCHANGE, exchanged_in
from resources.files import StoredFile, files_under, folders_in, remove_empty, remove_file
from resources.lake import Lake
from resources.location import is_local
from resources.mlflow import Mlflow
from resources.problems import InputError, Problem
from resources.pruned import pruned, record_pruned
from resources.settings import Settings
from resources.spark import Spark

Test = Callable[[StoredFile], bool]
LOG, DAY = "_delta_log", 24 * 3600.0
SHARED, BROUGHT, FLEET = "shared", "brought-", "fleet"
PASSING = (BROUGHT, EXCHANGE)  # how folders are called that are gone when a command ends well
# tables that hold a partition for each training or champion, of which old ones are taken out
PARTITIONED = {MODELS: TRAINING, CHAMPIONS: PUBLISHED}


@dataclass(frozen=True)
class Part:
    """What goes of one table or folder: files, and what is lost with them: versions, trainings or champions."""

    name: str
    files: tuple[StoredFile, ...]
    gone: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Plan:
    """What a prune removes; parts of which nothing goes are not in it."""

    parts: tuple[Part, ...]

    @property
    def files(self) -> int:
        """How many files go."""
        return sum(len(part.files) for part in self.parts)

    @property
    def size(self) -> int:
        """How many bytes go."""
        return sum(part.size for part in self.parts)


def plan_of(lake: Lake, mlflow: Mlflow, settings: Settings, keep: int | None = None) -> Plan:
    """What goes of a lake if the `keep` newest of everything stay (by default what `fleet.yaml` says).

    Raises:
        InputError: a pinned snapshot is not there, or a file that is to stay is missing: then nothing may be removed.
    """
    retention = settings.retention
    kept = kept_of(lake, mlflow, retention.keep if keep is None else keep, retention.pinned)
    now = time.time()

    def old(file: StoredFile) -> bool:
        # a file that no version ever listed may be one that somebody is about to commit
        return now - file.written > DAY

    found = [
        *(_of_versions(lake, name, kept.versions[name], old) for name in VERSIONED),
        *(_of_partitions(lake, name, kept, old) for name in PARTITIONED),
        _of_boosters(lake, kept, old),
        *_of_verdicts(lake, settings, kept, old),
        _leftovers(lake, settings, old),
    ]
    return Plan(tuple(part for part in found if part.files or part.gone))


def carry_out(lake: Lake, plan: Plan) -> None:
    """Removes what is planned: first said in `pruned.json`, then taken out of the tables, the files last."""
    by_name = {part.name: part for part in plan.parts}
    said = {name: by_name[name].gone for name in (*VERSIONED, CHAMPIONS) if name in by_name and by_name[name].gone}
    if said:
        record_pruned(lake, said, datetime.now(UTC).date().isoformat())
    for name, column in PARTITIONED.items():
        if name in by_name:
            _take_out(lake, name, column, by_name[name].gone)
    for part in plan.parts:
        for file in part.files:
            remove_file(file.uri)
    _remove_empty_folders(lake, [file.uri for part in plan.parts for file in part.files])


def _take_out(lake: Lake, name: str, column: str, gone: Sequence[str]) -> None:
    """Commits a version of a table without some partitions."""
    table = lake.table(name)
    if there := sorted(_partitions(table.files(), column) & set(gone)):
        with table.staging() as staging:
            record = {PRUNED: there}
            table.commit(staging, table.schema(), record, partition_by=[column], files=[], replacing=there)


def _of_versions(lake: Lake, name: str, kept: AbstractSet[int], old: Test) -> Part:
    """What goes of a table of which whole versions are kept."""
    table, gone = lake.table(name), pruned(lake, name)
    listed = {version: set(table.files(version)) for version in table.records()}
    needed = set[str]().union(*(listed[version] for version in kept))
    lost = [str(v) for v in sorted(listed) if v not in kept and str(v) not in gone and not listed[v] <= needed]
    return Part(name, _unlisted(lake, name, needed, set[str]().union(*listed.values()), old), tuple(lost))


def _of_partitions(lake: Lake, name: str, kept: Kept, old: Test) -> Part:
    """What goes of a table that grows by a partition a training or champion."""
    table, column = lake.table(name), PARTITIONED[name]
    stay = kept.trainings if name == MODELS else kept.champions
    now, gone = table.files(), _partitions(table.files(), column) - stay
    needed = {file for file in now if not _partitions([file], column) & gone}
    past = set[str]().union(*(table.files(version) for version in table.records()))
    return Part(name, _unlisted(lake, name, needed, past, old), tuple(sorted(gone)))


def _partitions(files: Iterable[str], column: str) -> set[str]:
    return {file.rsplit(f"/{column}=", 1)[1].split("/", 1)[0] for file in files}


def _unlisted(lake: Lake, name: str, needed: set[str], past: set[str], old: Test) -> tuple[StoredFile, ...]:
    """Files of a table that no kept version needs: those that another one lists, and what lies about for long."""
    root = lake.table(name).uri
    there = [file for file in files_under(root) if not file.uri.startswith(f"{root}/{LOG}/")]
    _refuse_missing(name, needed, there)
    by_folder: dict[str, list[StoredFile]] = {}
    for file in there:
        by_folder.setdefault(file.uri[len(root) + 1 :].partition("/")[0], []).append(file)
    found: list[StoredFile] = []
    for files in by_folder.values():
        listed = {file.uri for file in files} & past
        if any(file.uri in needed for file in files):
            found += [file for file in files if _data_file(file.uri) in past - needed]
        elif listed or all(old(file) for file in files):
            found += files
    return tuple(found)


def _data_file(uri: str) -> str:
    """The file itself, or the one that a checksum of Spark's (`.part-0.parquet.crc`) is of."""
    folder, _, name = uri.rpartition("/")
    return f"{folder}/{name[1:].removesuffix('.crc')}" if name.startswith(".") and name.endswith(".crc") else uri


def _of_boosters(lake: Lake, kept: Kept, old: Test) -> Part:
    """Shards that are older than the newest kept one, and fleet-wide models; what is newer a run has left that died."""
    root = lake.root
    there, needed = files_under(lake.path(BOOSTERS)), {f"{root}/{file}" for file in kept.models}
    _refuse_missing(BOOSTERS, needed, there)
    fleet = f"{root}/{BOOSTERS}/{FLEET}/"
    newest = max((uri.rpartition("/")[2] for uri in needed if not uri.startswith(fleet)), default="")
    models = [record["fleet_model"] for record in lake.table(MODELS).records().values() if record.get("fleet_model")]
    past = {f"{root}/{model['file']}" for model in models}

    def goes(file: StoredFile) -> bool:
        if file.uri.startswith(fleet):
            return file.uri in past or old(file)
        return file.uri.rpartition("/")[2] < newest

    return Part(BOOSTERS, tuple(file for file in there if file.uri not in needed and goes(file)))


def _of_verdicts(lake: Lake, settings: Settings, kept: Kept, old: Test) -> list[Part]:
    """What was noted of versions that go: manifests, profiles and odd times of snapshots, verdicts on features."""
    of_raw, of_features = (_digests(lake, name, kept.versions[name]) for name in (RAW, FEATURES))
    return [
        _noted(lake, "manifests", of_raw, lambda digest: f"{digest}.json", old),
        _noted(lake, "profiles", of_raw, lambda digest: profile_file(digest, settings).rpartition("/")[2], old),
        _noted(lake, TIMES_FOLDER, of_raw, lambda digest: times_file(digest, settings).rpartition("/")[2], old),
        _noted(lake, "verdicts", of_features, lambda digest: f"{digest}.json", old),
    ]


def _noted(
    lake: Lake, folder: str, digests: tuple[set[str], set[str]], name_of: Callable[[str], str], old: Test
) -> Part:
    """Files of a folder (`<digest>.json`, or `<what>-<digest>.json`) that are of no kept version."""
    stay, all_ = ({name_of(digest) for digest in group} for group in digests)
    named = [(file, file.uri.rpartition("/")[2].rpartition("-")[2]) for file in files_under(lake.path(folder))]
    return Part(folder, tuple(file for file, name in named if name not in stay and (name in all_ or old(file))))


def _digests(lake: Lake, name: str, kept: AbstractSet[int]) -> tuple[set[str], set[str]]:
    """Digests of the kept versions of a table, and of all that it ever had."""
    records = {
        version: record["digest"] for version, record in lake.table(name).records().items() if "digest" in record
    }
    return {digest for version, digest in records.items() if version in kept}, set(records.values())


def _leftovers(lake: Lake, settings: Settings, old: Test) -> Part:
    """What commands that died left in folders that live as long as they do."""
    found = [file for file in files_under(lake.path(SHARED)) if old(file)]
    for root, beginnings in {exchanged_in(lake.root, Spark.of(settings)): (EXCHANGE,), lake.root: PASSING}.items():
        for name in folders_in(root):
            files = files_under(f"{root}/{name}") if name.startswith(beginnings) else []
            found += files if all(old(file) for file in files) else []
    return Part("leftovers", tuple(found))


def _refuse_missing(name: str, needed: set[str], there: list[StoredFile]) -> None:
    if lost := sorted(needed - {file.uri for file in there}):
        what = f"{len(lost):,} files that are to be kept are not there, such as {lost[0]}"
        raise InputError([Problem(name, what, "nothing is pruned before they are back: restore them from a backup")])


def _remove_empty_folders(lake: Lake, removed: Iterable[str]) -> None:
    """Folders that held only what was removed; those that every lake has stay."""
    folders: set[Path] = set()
    for uri in filter(is_local, removed):
        parents = Path(uri).parents
        folders |= {f for f in parents if f.name.startswith(PASSING) or Path(lake.root) in f.parent.parents}
    remove_empty(sorted(folders, key=lambda folder: len(folder.parts), reverse=True))
