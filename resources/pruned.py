"""What was pruned and when: kept in the lake, so that who asks for it later is told rather than misses a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from resources.lake import Lake
from resources.problems import InputError, Problem

FILE = "pruned.json"


def pruned(lake: Lake, table: str) -> dict[str, str]:
    """What was pruned of a table (versions, or what else it is counted in), with the date of each."""
    return _read(lake).get(table, {})


def record_pruned(lake: Lake, gone: Mapping[str, Iterable[str]], date: str) -> None:
    """Adds what is pruned today, by table; dates that are there already stay."""
    known = _read(lake)
    for table, names in gone.items():
        known[table] = {**dict.fromkeys(names, date), **known.get(table, {})}
    lake.write_file(FILE, json.dumps(known, sort_keys=True).encode())


def refuse_pruned(lake: Lake, table: str, name: str, where: str) -> None:
    """Nothing, unless this was pruned.

    Raises:
        InputError: it was, on which date.
    """
    if date := pruned(lake, table).get(name):
        remedy = "choose one that is there still, or bring the rows again"
        raise InputError([Problem(where, f"{table} {name} was pruned on {date}", remedy)])


def _read(lake: Lake) -> dict[str, dict[str, str]]:
    return json.loads(lake.read_file(FILE) or b"{}")
