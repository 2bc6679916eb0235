"""Challenger against champion on the same segments and periods, once labels came: differences with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.evaluation.live_errors import LIVE_ERRORS, LIVE_PERIODS, scored_issues
from assets.evaluation.live_score import SUMS
from assets.evaluation.live_summary import NOBODY, live_metric
from assets.presentation import BLUE, GREY, new_figure
from resources.lake import Lake

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Pair = tuple[int, int | None]  # challenger and champion (None: the baseline)
DRAWS, AT_ONCE = 1_000, 20
TAIL = 0.025  # of a 95% interval
WEEK, WEEKS_TO_BLOCK = np.timedelta64(7, "D"), 4
PAIRS_SHOWN = 3
ALL = "all"
COLUMNS = ["challenger", "champion", "issue", "from", "through", "segments", "rows"]


@dataclass(frozen=True)
class PairedSums:
    """Sums of two fleets' errors over the same rows: (n, 2) arrays, champion first, by segment and by period."""

    segments: Floats
    periods: Floats
    times: NDArray[np.datetime64]
    totals: pd.DataFrame


@dataclass(frozen=True)
class Difference:
    """How much larger the challenger's error is, as a share of the champion's, and the bounds of its interval."""

    value: float
    lower: float
    upper: float


def compared_pairs(lake: Lake) -> dict[Pair, list[int]]:
    """Who can be compared with whom, the newest last, and the issues that both forecast and that have labels."""
    found: dict[Pair, list[int]] = {}
    for issue, said in scored_issues(lake).items():
        if said.get("pair") and any(total["sampled"] and total["count"] for total in said["totals"]):
            challenger, champion = said["pair"]
            found.setdefault((challenger, champion), []).append(issue)
    return found


def paired_sums(lake: Lake, pair: Pair, issues: Sequence[int], metric: str) -> PairedSums:
    """What both forecast in some issues, whether it was served or not, by segment and by period."""
    kind = "squared" if metric == "rmse" else "absolute"
    where = [("issue", "in", [str(issue) for issue in issues])]
    by_segment, by_period = (
        _by(lake.table(name).arrow([key, "version", "sampled", *SUMS], where=where), key, pair[0])
        for name, key in ((LIVE_ERRORS, "segment"), (LIVE_PERIODS, "time"))
    )
    periods = _matrix(by_period, "time", kind)
    totals = by_period.groupby("challenger")[list(SUMS)].sum().reindex([False, True])
    times = periods.index.to_numpy().astype("datetime64[us]")
    return PairedSums(_matrix(by_segment, "segment", kind).to_numpy(), periods.to_numpy(), times, totals)


def _by(rows: pa.Table, key: str, challenger: int) -> pd.DataFrame:
    rows = rows.filter(rows["sampled"])
    theirs = pc.fill_null(pc.equal(rows["version"], challenger), False)
    grouped = rows.append_column("challenger", theirs).group_by([key, "challenger"], use_threads=False)
    summed = grouped.aggregate([(name, "sum") for name in SUMS]).rename_columns([key, "challenger", *SUMS])
    frame: pd.DataFrame = summed.filter(pc.greater(summed["count"], 0)).to_pandas()
    return frame


def _matrix(summed: pd.DataFrame, key: str, kind: str) -> pd.DataFrame:
    return summed.pivot(index=key, columns="challenger", values=kind).reindex(columns=[False, True]).dropna()


def difference(sums: PairedSums, metric: str) -> Difference:
    """The challenger's error over the champion's, less one, with a 95% interval.

    Forecast errors go together in two ways: over time within a segment, and across segments at one time. So both are
    drawn anew and their deviations added, which is on the safe side (the pigeonhole bootstrap's variance: Owen 2007,
    Annals of Applied Statistics 1(2), doi:10.1214/07-AOAS122): segments one by one, and periods, all segments together,
    in circular blocks (Politis and Romano 1992). Blocks are weeks once there are four of them, before that as many
    periods as the cube root of their number (Hall, Horowitz and Jing 1995, Biometrika 82(3)). Few segments or blocks
    make it wider.
    """
    value = float(_ratio(sums.segments.sum(axis=0), metric))
    if not np.isfinite(value):
        return Difference(value, value, value)
    draw = np.random.default_rng(0)
    moved = np.zeros(DRAWS)
    for draws, groups in (
        (_segments(sums, draw), len(sums.segments)),
        (_periods(sums, draw), len(sums.periods) / block_length(sums.times)),
    ):
        drawn = _ratio(np.concatenate(list(draws)), metric)
        moved += _widened(groups) * (np.where(np.isfinite(drawn), drawn, value) - value)
    lower, upper = np.percentile(value + moved, [100 * TAIL, 100 * (1 - TAIL)])
    return Difference(value, float(lower), float(upper))


def _widened(groups: float) -> float:
    """What deviations are multiplied by where few groups were drawn from: their variance is too small, and not known.

    n / (n - 1), and Student's t in place of the normal (Cameron, Gelbach and Miller 2008, doi:10.1162/rest.90.3.414).
    """
    from scipy.stats import norm, t

    if groups <= 1:
        return 1.0
    freedom = max(groups - 1, 1.0)
    return float((groups / (groups - 1)) ** 0.5 * t.ppf(1 - TAIL, freedom) / norm.ppf(1 - TAIL))


def _ratio(sums: Floats, metric: str) -> Floats:
    """Challenger over champion less one; 0 where both are without error."""
    champion, challenger = sums[..., 0], sums[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((champion == 0) & (challenger == 0), 1.0, challenger / champion)
    return (np.sqrt(ratio) if metric == "rmse" else ratio) - 1


def _segments(sums: PairedSums, draw: np.random.Generator) -> Iterator[Floats]:
    count = len(sums.segments)
    for _ in range(DRAWS // AT_ONCE):
        yield sums.segments[draw.integers(count, size=(AT_ONCE, count))].sum(axis=1)


def _periods(sums: PairedSums, draw: np.random.Generator) -> Iterator[Floats]:
    count, block = len(sums.periods), block_length(sums.times)
    blocks = -(-count // block)
    for _ in range(DRAWS // AT_ONCE):
        starts = draw.integers(count, size=(AT_ONCE, blocks, 1))
        places = (starts + np.arange(block)).reshape(AT_ONCE, -1)[:, :count] % count
        yield sums.periods[places].sum(axis=1)


def block_length(times: NDArray[np.datetime64]) -> int:
    """Periods in a block: a week's once there are four weeks, else the cube root of how many there are."""
    if len(times) > 1 and times[-1] - times[0] + np.diff(times).min() >= WEEKS_TO_BLOCK * WEEK:
        return max(1, int((times < times[0] + WEEK).sum()))
    return max(1, round(len(times) ** (1 / 3)))


def live_comparison(lake: Lake, metric: str) -> tuple[pd.DataFrame, Figure]:
    """A row for each issue that both forecast and one for all, the newest pair first; and the differences drawn.

    Empty as long as no label came of what a challenger forecast beside a champion.
    """
    pairs = list(compared_pairs(lake).items())[-PAIRS_SHOWN:]
    rows = [
        row
        for pair, issues in reversed(pairs)
        for some in ([issues] if len(issues) > 1 else []) + [[issue] for issue in issues]
        if (row := _row(lake, pair, some, metric)) is not None
    ]
    numbers = [f"champion {metric}", f"challenger {metric}", "difference", "lower", "upper"]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *numbers])
    return frame, _drawn(frame, metric)


def _row(lake: Lake, pair: Pair, issues: Sequence[int], metric: str) -> dict[str, Any] | None:
    sums = paired_sums(lake, pair, issues, metric)
    if not len(sums.periods):
        return None
    found, errors = difference(sums, metric), live_metric(metric, sums.totals)
    return {
        "challenger": str(pair[0]),
        "champion": NOBODY if pair[1] is None else str(pair[1]),
        "issue": ALL if len(issues) > 1 else str(issues[0]),
        "from": str(sums.times[0].astype("datetime64[s]")),
        "through": str(sums.times[-1].astype("datetime64[s]")),
        "segments": len(sums.segments),
        "rows": int(sums.totals["count"].iloc[1]),
        f"champion {metric}": float(errors.iloc[0]),
        f"challenger {metric}": float(errors.iloc[1]),
        "difference": found.value,
        "lower": found.lower,
        "upper": found.upper,
    }


def _drawn(frame: pd.DataFrame, metric: str) -> Figure:
    """Differences with their intervals, a line each; left of zero the challenger is better."""
    title = f"Challenger's live {metric} against the champion's (95% interval; below 0: better)"
    figure, axes = new_figure(title, 9, 1.4 + 0.4 * max(1, len(frame)))
    rows = frame[::-1].to_dict("records")
    for place, row in enumerate(rows):
        value, colour = row["difference"], BLUE if row["issue"] == ALL else GREY
        reach = [[100 * (value - row["lower"])], [100 * (row["upper"] - value)]]
        axes.errorbar(100 * value, place, xerr=reach, fmt="o", color=colour, capsize=3)
    said = [f"{row['challenger']} against {row['champion']}, issue {row['issue']}" for row in rows]
    axes.set_yticks(range(len(rows)), said)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel("%")
    return figure
