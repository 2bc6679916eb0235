"""The rows of the table `drift`: a segment each, with what this look found of it, or what stands of an earlier one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.drift.judgement import Judgement
from assets.drift.plan import NEVER
from assets.drift.windows import TESTS
from resources.table import Table

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# what the tests of a segment's data found: of the newest window that was judged
TOLD = pa.schema(
    [("segment", pa.string()), ("drifted", pa.bool_()), ("column", pa.string()), ("test", pa.string())]
    + [("p_value", pa.float64()), ("effect", pa.float64())]
    + [(name, pa.list_(pa.float32())) for name in ("p_values", "effects")]
    + [("columns", pa.list_(pa.string()))]
)
OF_ERRORS = ["e_value", "error_state", "live_issues", "live_ratio"]
ROW = pa.schema(
    [("segment", pa.string()), ("state", pa.string())]
    + [("alarmed", pa.bool_()), ("new", pa.bool_()), ("drifted", pa.bool_()), ("why", pa.string())]
    + [(name, pa.int64()) for name in ("trained", "start", "judged_through", "since", "rows", "reference_rows")]
    + [(name, TOLD.field(name).type) for name in TOLD.names if name not in ("segment", "drifted")]
    + [("e_value", pa.float64()), ("error_state", pa.string())]
    + [("live_issues", pa.int64()), ("live_ratio", pa.float64())]
)


def same_columns(table: Table, columns: list[str]) -> bool:
    """Whether the last look tested the same columns, in the same order."""
    return table.record().get("columns") == columns


def told_of(judged: pa.Table, judgement: Judgement, effects: Floats, columns: list[str]) -> pa.Table:
    """A row (see `TOLD`) for each judged segment.

    `column` and `test` are, of the tests that say so, the one with the largest effect; else that of the least p-value.
    """
    by_test = np.where(np.isfinite(judgement.by_test), judgement.by_test, np.inf)
    largest = np.where(judgement.telling, np.nan_to_num(effects), -1.0).argmax(axis=1)
    best = np.where(judgement.telling.any(axis=1), largest, by_test.argmin(axis=1))
    found = {
        "segment": judged["segment"],
        "drifted": judgement.drifted,
        "column": [columns[place // len(TESTS)] for place in best],
        "test": [TESTS[place % len(TESTS)] for place in best],
        "p_value": pa.array(judgement.p_values, from_pandas=True),
        "effect": pa.array(effects[np.arange(len(best)), best], from_pandas=True),
        "p_values": _lists(judgement.by_test),
        "effects": _lists(effects),
        "columns": judged["features"],
    }
    return pa.table([_as(found[field.name], field.type) for field in TOLD], schema=TOLD)


def drift_rows(
    plan: pa.Table,
    lines: pa.Table,
    told: pa.Table,
    errors: pa.Table,
    by_error: Flags,
    before: pa.Table | None,
) -> pa.Table:
    """A row (see `ROW`) for each planned segment: alarmed by its data, its errors, or both.

    Of a segment whose window is not complete, what `before` said of its data stands.
    """
    told, place = _standing(plan, told, before)
    by_data = pc.fill_null(told["drifted"].take(place), False).to_numpy()
    now = pc.is_in(plan["segment"], lines.filter(pc.is_valid(lines["statistics"]))["segment"].combine_chunks())
    tested, ends = now.to_numpy(), plan["end"].to_numpy()
    was = plan["alarmed_before"].to_numpy()
    alarmed = by_data | by_error
    since = plan["since"].to_numpy()
    since = np.where((by_data & tested) | (since == NEVER), ends, since)
    seen = pc.index_in(plan["segment"], lines["segment"].combine_chunks()).combine_chunks()
    given = {
        **{name: plan[name] for name in ("segment", "trained", "start")},
        **{name: told[name].take(place) for name in TOLD.names if name != "segment"},
        **{name: errors[name] for name in OF_ERRORS},
        **{name: lines[name].take(seen) for name in ("rows", "reference_rows")},
        "state": pc.coalesce(lines["state"].take(seen), plan["state"]),
        "alarmed": alarmed,
        "new": alarmed & ~was,
        "why": np.select([by_data & by_error, by_data, by_error], ["data and error", "data", "error"], "").tolist(),
        "judged_through": np.where(tested, ends, plan["judged_before"].to_numpy()),
        "since": np.where(alarmed, since, NEVER),
        "drifted": by_data,
    }
    return pa.table([_as(given[field.name], field.type) for field in ROW], schema=ROW)


def _standing(plan: pa.Table, told: pa.Table, before: pa.Table | None) -> tuple[pa.Table, pa.Array]:
    """What is told of the segments, now or before, and the row of it that speaks of each planned segment."""
    keys = plan["segment"].combine_chunks()
    place = pc.index_in(keys, told["segment"].combine_chunks())
    if before is None:
        return told, place
    judged_before = pc.greater(plan["judged_before"].combine_chunks(), NEVER)
    older = pc.add(pc.index_in(keys, before["segment"].combine_chunks()), len(told))
    stands = pc.coalesce(place, pc.if_else(judged_before, older, pa.scalar(None, pa.int32())))
    return pa.concat_tables([told, before.select(TOLD.names).cast(TOLD)]).combine_chunks(), stands


def _lists(values: Floats) -> pa.Array:
    flat = pa.array(values.ravel().astype(np.float32), from_pandas=True)
    return pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1], flat)


def _as(values: object, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return values.cast(kind) if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, kind)
