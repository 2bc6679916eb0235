"""Who serves each segment in a version: the challenger, or the incumbent where it is kept, pinned or brought back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from assets.models.store import LISTING, aligned, as_listing
from resources.problems import InputError, Problem, nearest_segments

OUTCOME, OUTCOME_REASON, PINNED_UNTIL = "outcome", "outcome_reason", "pinned_until"
PROMOTED, KEPT, PINNED = "promoted", "kept", "pinned"
MOST_NAMED = 20
HELD = pa.schema(
    [("segment", pa.string()), (OUTCOME, pa.string()), (OUTCOME_REASON, pa.string()), (PINNED_UNTIL, pa.date32())]
)


def fleet_listing(rows: pa.Table, incumbent: pa.Table | None, kept: pa.Table | None, today: date) -> pa.Table:
    """The rows of an evaluation as they are published: each with its `outcome`, why, and until when it is pinned.

    Segments that are `kept` (`segment`, `why`), and those that the incumbent's listing has pinned beyond today, keep
    who served them; the error sums are today's for all.
    """
    held = _held(rows, incumbent, kept, today) if incumbent is not None else HELD.empty_table()
    is_held = pc.is_in(rows["segment"], held["segment"].combine_chunks())
    fresh = rows.filter(pc.invert(is_held))
    parts = [_promoted(fresh)]
    if len(held):
        assert incumbent is not None, "somebody is held by one"
        theirs = as_listing(incumbent).filter(pc.is_in(incumbent["segment"], held["segment"].combine_chunks()))
        sums = rows.select(["segment", *(name for name in rows.column_names if name not in LISTING.names)])
        whole = theirs.join(sums, "segment", join_type="inner").join(held, "segment", join_type="inner")
        parts.append(whole.select(parts[0].column_names).cast(parts[0].schema))
    return pa.concat_tables(parts).sort_by("segment").combine_chunks()


def outcomes_of(listing: pa.Table) -> dict[str, int]:
    """How many segments of a listing were promoted, kept, pinned, refused; older ones were all promoted."""
    counted = pc.value_counts(with_outcomes(listing)[OUTCOME])
    return {row["values"]: row["counts"] for row in counted.to_pylist()}


def with_rows_of(
    current: pa.Table, target: pa.Table, segments: Sequence[str], pin_until: date | None, where: str
) -> pa.Table:
    """A listing in which some segments are as a target listing has them, pinned until a day or not at all.

    Raises:
        InputError: the target does not know a segment; `where` says which listing that is.
    """
    asked = pa.array(dict.fromkeys(segments), pa.string())
    _refuse_unknown(asked, target["segment"], where)
    theirs = target.filter(pc.is_in(target["segment"], asked))
    brought = aligned(theirs, current.schema)
    if pin_until is not None:
        until = pa.array([pin_until] * len(brought), pa.date32())
        brought = _set(brought, PINNED_UNTIL, until)
    others = current.filter(pc.invert(pc.is_in(current["segment"], asked)))
    return pa.concat_tables([aligned(others, brought.schema), brought]).sort_by("segment").combine_chunks()


def without_pins(current: pa.Table, segments: Sequence[str], where: str) -> pa.Table:
    """A listing in which some segments are pinned no more.

    Raises:
        InputError: the listing, which `where` names, does not know a segment.
    """
    asked = pa.array(dict.fromkeys(segments), pa.string())
    _refuse_unknown(asked, current["segment"], where)
    if PINNED_UNTIL not in current.column_names:
        return current
    freed = pc.is_in(current["segment"], asked)
    return _set(current, PINNED_UNTIL, pc.if_else(freed, pa.scalar(None, pa.date32()), current[PINNED_UNTIL]))


def _held(rows: pa.Table, incumbent: pa.Table, kept: pa.Table | None, today: date) -> pa.Table:
    """Segments (see `HELD`) that keep their incumbent: the pinned ones first, then those that the gate keeps."""
    parts = [HELD.empty_table()]
    if PINNED_UNTIL in incumbent.column_names:
        pinned = incumbent.filter(pc.fill_null(pc.greater_equal(incumbent[PINNED_UNTIL], pa.scalar(today)), False))
        why = pc.binary_join_element_wise("pinned until", pinned[PINNED_UNTIL].cast(pa.string()), " ")
        parts.append(_held_table(pinned["segment"], PINNED, why, pinned[PINNED_UNTIL]))
    if kept is not None:
        free = kept.filter(pc.invert(pc.is_in(kept["segment"], parts[-1]["segment"].combine_chunks())))
        parts.append(_held_table(free["segment"], KEPT, free["why"], pa.nulls(len(free), pa.date32())))
    held = pa.concat_tables(parts)
    both = pc.and_(*(pc.is_in(held["segment"], table["segment"].combine_chunks()) for table in (rows, incumbent)))
    return held.filter(both)


def _held_table(segments: pa.ChunkedArray, outcome: str, why: pa.ChunkedArray, until: pa.ChunkedArray) -> pa.Table:
    outcomes = pa.array([outcome] * len(segments), pa.string())
    return pa.Table.from_arrays([segments, outcomes, why, until], names=HELD.names).cast(HELD)


def with_outcomes(listing: pa.Table) -> pa.Table:
    """A listing with the columns that say what became of each segment; in older ones all were promoted."""
    return listing if OUTCOME in listing.column_names else _promoted(listing)


def _promoted(rows: pa.Table) -> pa.Table:
    rows = rows.append_column(HELD.field(OUTCOME), pa.array([PROMOTED] * len(rows), pa.string()))
    for name in (OUTCOME_REASON, PINNED_UNTIL):
        rows = rows.append_column(HELD.field(name), pa.nulls(len(rows), HELD.field(name).type))
    return rows


def _set(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name not in rows.column_names:
        return rows.append_column(HELD.field(name), values)
    return rows.set_column(rows.column_names.index(name), HELD.field(name), values)


def _refuse_unknown(asked: pa.Array, known: pa.ChunkedArray, where: str) -> None:
    unknown = asked.filter(pc.invert(pc.is_in(asked, known.combine_chunks()))).to_pylist()
    if unknown:
        names, what = known.to_pylist(), f"is no segment of {where}"
        raise InputError(Problem(each, what, nearest_segments(each, names)) for each in unknown[:MOST_NAMED])
