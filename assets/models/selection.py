"""Sets of segments kept in the lake, so that a run is told which to train by one number, however many they are."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from assets.models.store import SELECTION, Training
from resources.files import write_parquet
from resources.lake import Lake
from resources.problems import InputError, Problem

SELECTIONS = "selections"
OF_SELECTION = pa.schema([("segment", pa.string())])
ALL = "all"


def keep_selection(lake: Lake, segments: pa.Array | None, why: dict[str, Any]) -> int:
    """Commits a set of segments (None: all there are) with why it was made, and gives its number."""
    table = lake.table(SELECTIONS)
    rows = pa.table([segments if segments is not None else pa.array([], pa.string())], schema=OF_SELECTION)
    with table.staging() as staging:
        write_parquet(rows, f"{staging.uri}/segments.parquet")
        return table.commit(staging, OF_SELECTION, {**why, ALL: segments is None, "segments": len(rows)})


def selected(lake: Lake, number: int) -> list[str] | None:
    """The segments of a selection; None if it is of all.

    Raises:
        InputError: there is no selection of this number.
    """
    record = _record(lake, number)
    if record[ALL]:
        return None
    return lake.table(SELECTIONS).arrow(["segment"], version=number)["segment"].to_pylist()


def selection_facts(lake: Lake, number: int) -> dict[str, Any]:
    """What the record of a training keeps of the selection that it was of: its number, and why it was made.

    Raises:
        InputError: there is no selection of this number.
    """
    return {"number": number, **_record(lake, number)}


def segments_asked(lake: Lake, training: Training) -> pa.Array:
    """The segments that a training, which is not of all, was asked for."""
    of = training.record.get(SELECTION)
    named = training.record["segments"] if of is None else selected(lake, of["number"])
    return pa.array(named or [], pa.string())


def _record(lake: Lake, number: int) -> dict[str, Any]:
    found = lake.table(SELECTIONS).record(number)
    if ALL not in found:
        raise InputError([Problem("selection", f"there is no set of segments {number}", "name segments instead")])
    return found
