"""What a week has changed, as people look at it: who was promoted, kept or pinned, why, and what it brings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from assets.champions.listing import KEPT, OUTCOME, OUTCOME_REASON, PINNED, PROMOTED, outcomes_of, with_outcomes
from assets.presentation import BLUE, GREY, ORANGE, RED, errors_against

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("report.html.jinja")
REPORT = "reports/champions.html"
WORST = 50
COLOURS = {PROMOTED: BLUE, KEPT: ORANGE, PINNED: GREY, "refused": RED}
COLUMNS = ["segment", "outcome", "why", "serves", "before", "after", "change", "label sum", "rows"]


def segment_changes(listing: pa.Table) -> pd.DataFrame:
    """A row (see `COLUMNS`) a segment with holdout rows: WAPE before and after, most error added first.

    Before: the incumbent's; after: that of who serves the segment now, which is the incumbent where it was kept or
    pinned. Both are of the same holdout rows. `change` is in units of the label.
    """
    frame = with_outcomes(listing).drop_columns(["rows"]).to_pandas()  # those it was trained on
    frame = frame[frame["count"].fillna(0) > 0].copy()
    scale = frame["label_absolute"].where(frame["label_absolute"] > 0)
    before = pd.to_numeric(frame["incumbent_absolute"])
    stays = frame[OUTCOME].isin([KEPT, PINNED]) & before.notna()
    after = pd.to_numeric(frame["served_absolute"]).where(~stays, before)
    frame["before"], frame["after"], frame["change"] = before / scale, after / scale, after - before
    named = {
        OUTCOME: "outcome",
        OUTCOME_REASON: "why",
        "chosen": "serves",
        "label_absolute": "label sum",
        "count": "rows",
    }
    frame = frame.rename(columns=named)[COLUMNS]
    return frame.sort_values(["change", "after"], ascending=False, ignore_index=True)


def kept_segments(listing: pa.Table, count: int = WORST) -> pd.DataFrame:
    """Segments that did not get their challenger, and why."""
    frame = with_outcomes(listing).select(["segment", OUTCOME, OUTCOME_REASON]).to_pandas()
    stays = frame[frame[OUTCOME].isin([KEPT, PINNED])].rename(columns={OUTCOME: "outcome", OUTCOME_REASON: "why"})
    return stays.head(count)


def changes_plot(changes: pd.DataFrame) -> Figure:
    """Each segment's WAPE after, against before; below the line it became better."""
    title = "Error by segment on the same holdout: before and after (WAPE)"
    return errors_against(title, changes, ("before", "after"), "outcome", COLOURS)


def report_page(
    name: str,
    said: dict[str, Any],
    listing: pa.Table | None,
    changes: pd.DataFrame | None,
    record: dict[str, Any] | None,
    shadow: pd.DataFrame,
    versions: pd.DataFrame,
    plots: list[str],
) -> str:
    """The HTML page of what a run did with the champion.

    `said`: `outcome`, `reasons`, `version`, `by`, `run_id`. `listing`: the fleet that was decided on, if there is one,
    with its `changes` (see `segment_changes`). `shadow`: a row a comparison, see `live_comparison`. `plots`: PNGs as
    base64.
    """
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    counts = outcomes_of(listing) if listing is not None else {}
    return template.render(
        name=name,
        said=said,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        record=record,
        counts=counts,
        kept=_records(kept_segments(listing)) if listing is not None else [],
        worst=_records(changes.head(WORST)) if changes is not None else [],
        shadow=_records(shadow),
        errors_of=[name for name in shadow.columns if name.startswith(("champion ", "challenger "))],
        versions=_records(versions),
        plots=plots,
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    cells = frame.astype(object)
    return cells.where(cells.notna(), other=None).to_dict("records")  # type: ignore[call-overload]
