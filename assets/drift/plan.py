"""Which window of each segment is looked at: what came since its champion was trained and was not judged before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.drift.bucket import PLAN
from assets.evaluation.incumbent import Champion
from assets.models.store import TRAINING, Training
from assets.raw.calendar import base, seasons

Ints = NDArray[np.int64]

# periods of a window, where the shortest season is none that fits: a week of hours, a month of weeks
NATURAL = {"s": 3600, "min": 1440, "h": 168, "W": 4, "MS": 4, "ME": 4, "QS": 4, "QE": 4, "YS": 4, "YE": 4}
FEWEST_PERIODS = 4
NEVER = -(1 << 40)
MOST_WINDOWS = 8  # that are judged as one, where many came at once
# states of a segment before its rows are looked at
PLANNED, WAITING, OVERLAPS, NO_MODEL = "planned", "waiting", "the data end within the training", "no model"


def default_window(frequency: str) -> int:
    """Periods of a window by frequency: whole weeks of hours and days, else four or more periods."""
    import pandas as pd

    multiple, natural = pd.tseries.frequencies.to_offset(frequency).n, seasons(frequency)[0]
    periods = NATURAL.get(base(frequency))
    return max(FEWEST_PERIODS, natural if periods is None else periods // multiple)


def planned(
    champion: Champion, known: Mapping[str, Training], before: pa.Table | None, last: int, window: int
) -> pa.Table:
    """A row (see `PLAN`) for each segment of the champion, with `state`, and the alarm of `before` if it still stands.

    Windows do not overlap: one begins where the last that was judged ended, or where the training ended, and is as long
    as whole windows have come. What was said of a segment before stands until its champion is trained anew.
    """
    listing = champion.listing.sort_by("segment").combine_chunks()
    trained = _trained_through(listing, known)
    has_model = trained != NEVER
    past = _before(listing["segment"], before)
    same = past["trained"] == trained
    start = np.where(same, np.maximum(past["judged_through"], trained), trained)
    windows = np.maximum(last - start, 0) // window
    end = start + windows * window
    begin = np.maximum(start, end - MOST_WINDOWS * window)
    state = np.select(
        [~has_model, last < trained, windows == 0], [NO_MODEL, OVERLAPS, WAITING], default=PLANNED
    )  # fmt: skip
    rows = {
        "segment": listing["segment"],
        "bucket": listing["bucket"].cast(pa.int32()),
        "trained": pa.array(trained),
        "start": pa.array(begin),
        "end": pa.array(end),
        "state": pa.array(state.tolist(), pa.string()),
        "alarmed_before": pa.array(past["alarmed"] & same & has_model),
        "since": pa.array(np.where(past["alarmed"] & same, past["since"], NEVER)),
        "judged_before": pa.array(np.where(same, past["judged_through"], NEVER)),
    }
    return pa.table(rows)


def tasks_plan(rows: pa.Table) -> pa.Table:
    """What workers must know: the windows of the segments that are looked at."""
    return rows.filter(pc.equal(rows["state"], PLANNED)).select(PLAN.names).cast(PLAN)


def _trained_through(listing: pa.Table, known: Mapping[str, Training]) -> Ints:
    """The last period that each segment's champion learnt from; that of its training where it has no model of its own,
    and `NEVER` where nothing is known of one.
    """
    named = {key: training.record.get("trained_through") for key, training in known.items()}
    keys = pa.array([key for key, value in named.items() if value is not None], pa.string())
    ends = pa.array([value for value in named.values() if value is not None], pa.int64())
    of_training = ends.take(pc.index_in(listing[TRAINING], keys).combine_chunks())
    own: Ints = pc.fill_null(pc.coalesce(listing["trained_through"].combine_chunks(), of_training), NEVER).to_numpy()
    return own


def _before(segments: pa.ChunkedArray, before: pa.Table | None) -> dict[str, NDArray[np.generic]]:
    nothing = {"trained": NEVER - 1, "judged_through": NEVER, "alarmed": False, "since": NEVER}
    if before is None:
        return {name: np.full(len(segments), value) for name, value in nothing.items()}
    place = pc.index_in(segments, before["segment"].combine_chunks()).combine_chunks()
    return {
        name: pc.fill_null(before[name].combine_chunks().take(place), value).to_numpy(zero_copy_only=False)
        for name, value in nothing.items()
    }
