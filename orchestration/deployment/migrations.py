"""Changes to what lies in a lake that a new version of the code needs, carried out once, in order, by `fleet deploy`.

A migration may add what it likes; of the rows that a table had none may be lost. Tables have versions, so one that
loses rows is refused and its tables are brought back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from resources.files import folders_in
from resources.lake import Lake
from resources.problems import InputError, Problem


@dataclass(frozen=True)
class Migration:
    """One change of a lake, and what it is for."""

    says: str
    carry_out: Callable[[Lake], None]


# a lake of format n has had the first n of them; one that was carried out anywhere never changes or moves
MIGRATIONS: tuple[Migration, ...] = ()
LAKE_FORMAT = len(MIGRATIONS)

Counts = dict[str, tuple[int, int]]


def pending(lake: Lake, had: int | None, migrations: Sequence[Migration] = MIGRATIONS) -> Sequence[Migration]:
    """The migrations that a lake of format `had` (None: none was recorded) lacks; a new lake lacks none."""
    if had is None and not _counts(lake):
        return ()
    return migrations[had or 0 :]


def migrate(lake: Lake, migrations: Sequence[Migration]) -> list[str]:
    """Carries migrations out and gives what each was for.

    Raises:
        InputError: one lost rows; its tables are as they were before it.
    """
    for migration in migrations:
        before = _counts(lake)
        migration.carry_out(lake)
        if lost := _lost(before, _counts(lake)):
            _bring_back(lake, before, f"undoes: {migration.says}")
            raise InputError(
                [Problem(f"migration {migration.says!r}", each, "mend it; nothing changed") for each in lost]
            )
    return [migration.says for migration in migrations]


def _counts(lake: Lake) -> Counts:
    """Newest version and rows of every table."""
    tables = {name: lake.table(name) for name in folders_in(lake.root)}
    return {name: (table.version() or 0, table.row_count()) for name, table in tables.items() if table.exists()}


def _lost(before: Counts, after: Counts) -> list[str]:
    found = []
    for name, (_, rows) in before.items():
        now = after[name][1] if name in after else 0
        if now < rows:
            found.append(f"loses rows of {name}: {rows:,} before, {now:,} after")
    return found


def _bring_back(lake: Lake, before: Counts, why: str) -> None:
    for name, (version, _) in before.items():
        table = lake.table(name)
        if table.exists() and table.version() != version:
            table.restore(version, {**table.record(version), "restored": why})
