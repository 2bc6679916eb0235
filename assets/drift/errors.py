"""Error drift: each champion's live error against its error at promotion, by a test that may be looked at every day.

Each issue that a segment's champion forecast, once it is in force no longer and its labels came, gives one ratio: the
mean absolute error over what may be expected. A bet of a share b of the wealth that it lies above one multiplies
the wealth by 1 + b (ratio - 1). If the expected ratio is one at most, so is the expected wealth, however often and
whenever it is looked at (betting: Waudby-Smith and Ramdas 2023, "Estimating means of bounded random variables by
betting", JRSS B 86(1); a wealth that started at one is an e-value). Which segments have drifted is then said by e-BH
(Wang and Ramdas 2022, "False discovery rate control with e-values", JRSS B 84(3)), valid however they go together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.champions.listing import KEPT, OUTCOME, PINNED
from assets.evaluation.live_errors import LIVE_ERRORS, scored_issues
from assets.evaluation.live_score import SERVED
from resources.lake import Lake

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BETS = (0.05, 0.15, 0.4, 0.9)  # shares of the wealth, mixed evenly: which is best depends on how much worse it got
TOLERATED_DEVIATIONS = 3.0  # of the promised error itself, which few rows tell badly
ROWS_TOGETHER = 2.0  # neighbouring errors go together: rows are worth a half
# states of a segment's live error
JUDGED, AWAITED, NO_ACTUALS, NO_PROMISE = "judged", "awaited", "missing actuals", "no promised error"


def expected_errors(count: Floats, absolute: Floats, squared: Floats, excess: float) -> Floats:
    """What a live mean absolute error may be: that at promotion, an excess more that does not matter, and its own
    uncertainty; NaN where nothing was promised. From sums over the holdout, a segment each.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = absolute / count
        variation = np.sqrt(np.maximum(count * squared / np.square(absolute) - 1, 0.0))
        unsure = TOLERATED_DEVIATIONS * variation / np.sqrt(np.maximum(count / ROWS_TOGETHER, 1))
    return np.where((count > 0) & (absolute > 0), mean * (1 + excess) * (1 + unsure), np.nan)


def wealth(ratios: Floats, segments: Ints, count: int) -> Floats:
    """The e-value of each of `count` segments from its ratios (one each, `segments` says whose): 1 of none."""
    logarithms = np.log1p(np.asarray(BETS)[:, None] * (ratios - 1))
    sums = np.stack([np.bincount(segments, weights=each, minlength=count) for each in logarithms])
    found: Floats = np.exp(np.minimum(sums, 600.0)).mean(axis=0)
    return found


def error_evidence(lake: Lake, listing: pa.Table, trained: Ints, last: int, excess: float) -> pa.Table:
    """Of each row of a champion's listing: `e_value` (null: none), `error_state`, `live_issues`, `live_ratio`.

    `trained` is each segment's last training period: its champion made the issues from there on. Only issues count
    whose periods in force have all come, so that what is looked at never changes by looking again.
    """
    promised = expected_errors(_column(listing, "count"), *_promised_sums(listing), excess)
    lines = _finished_lines(lake, int(trained.min(initial=last)), last)
    place = pc.index_in(lines["segment"], listing["segment"].combine_chunks())
    known = lines.filter(pc.is_valid(place))
    segments = place.drop_null().to_numpy().astype(np.int64)
    mine = known["origin"].to_numpy() >= trained[segments] if len(known) else np.zeros(0, dtype=bool)
    segments, (rows, missing, absolute) = (
        segments[mine],
        (_column(known, name)[mine] for name in ("count", "missing", "absolute")),
    )
    counted = (rows > 0) & np.isfinite(promised[segments])
    ratios = absolute[counted] / rows[counted] / promised[segments[counted]]
    e_values = wealth(ratios, segments[counted], len(listing))
    issues = np.bincount(segments[counted], minlength=len(listing))
    lacking = np.bincount(segments, weights=missing * (rows == 0), minlength=len(listing)) > 0
    state = np.select(
        [issues > 0, np.isnan(promised), lacking], [JUDGED, NO_PROMISE, NO_ACTUALS], default=AWAITED
    )  # fmt: skip
    mean = np.bincount(segments[counted], weights=ratios, minlength=len(listing)) / np.maximum(issues, 1)
    return pa.table({
        "e_value": pa.array(e_values, mask=issues == 0),
        "error_state": pa.array(state.tolist(), pa.string()),
        "live_issues": pa.array(issues, pa.int64()),
        "live_ratio": pa.array(mean, mask=issues == 0),
    })  # fmt: skip


def _finished_lines(lake: Lake, after: int, last: int) -> pa.Table:
    """Lines of served forecasts in force, of issues since a period whose time in force is over; with their `origin`."""
    scored = scored_issues(lake)
    origins = sorted(said["origin"] for said in scored.values())
    found: list[pa.Table] = []
    columns = ["segment", "count", "missing", "absolute"]
    for issue, said in scored.items():
        until = min([said["end"], *(origin for origin in origins if origin > said["origin"])])
        if said["origin"] >= after and until <= min(last, said["last_period"]):
            rows = lake.table(LIVE_ERRORS).arrow([*columns, "role", "in_force"], where=[("issue", "=", str(issue))])
            rows = rows.filter(pc.and_(pc.equal(rows["role"], SERVED), rows["in_force"])).select(columns)
            found.append(rows.append_column("origin", pa.array([said["origin"]] * len(rows), pa.int64())))
    empty: dict[str, Any] = dict.fromkeys(columns, pa.float64()) | {"segment": pa.string(), "origin": pa.int64()}
    return pa.concat_tables(found) if found else pa.schema(empty.items()).empty_table()


def _promised_sums(listing: pa.Table) -> tuple[Floats, Floats]:
    """Absolute and squared errors on the holdout of who serves: the incumbent's where a segment kept it."""
    kept = np.zeros(len(listing), dtype=bool)
    if OUTCOME in listing.column_names:
        kept = pc.fill_null(pc.is_in(listing[OUTCOME], pa.array([KEPT, PINNED])), False).to_numpy()
    absolute, squared = (
        np.where(kept, _column(listing, f"incumbent_{kind}"), _column(listing, f"served_{kind}"))
        for kind in ("absolute", "squared")
    )
    return absolute, squared


def _column(rows: pa.Table, name: str) -> Floats:
    if name not in rows.column_names:
        return np.full(len(rows), np.nan)
    filled: Floats = pc.fill_null(rows[name].cast(pa.float64()), float("nan")).to_numpy()
    return filled
