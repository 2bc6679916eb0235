"""The evaluation as people look at it: tables, plots, and one HTML page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from assets.evaluation.interval_summary import interval_table
from assets.models.error_sums import LARGEST_IS_BEST
from assets.presentation import BLUE, BROWN, GREEN, GREY, ORANGE, VIOLET, errors_against, new_figure
from resources.lake import Lake

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERVES = {"blend": VIOLET, "segment": BLUE, "fleet": GREEN, "median": BROWN, "baseline": ORANGE}
SERVES_SAID = {
    "blend": "a blend",
    "segment": "its own model",
    "fleet": "the fleet-wide model",
    "median": "the seasonal median",
    "baseline": "the baseline",
}
WORST = 10
WORST_IN_REPORT = 50
TEMPLATE = Path(__file__).with_name("report.html.jinja")
EXPLAINED = {
    "challenger": "the models just trained, in every segment that has one",
    "fleet": "the fleet-wide model just trained, in every segment",
    "served": "each segment's blend of the others, with weights chosen on the fold before the holdout",
    "incumbent": "the fleet that has served until now (chosen by some of these rows: the gate looks at later ones)",
    "baseline": "seasonal naive: the last season known at the forecast's origin",
    "median": "seasonal median of the last four seasons known at the forecast's origin; of labels mostly zero, TSB",
}
WORTH = {"wins": "segments won", "without": "served without it"}
RATE = "how often a 1 came, of what is known at the forecast's origin"
MEAN = "the mean of the segment's labels outside the holdout"
MIDDLE = "the median of the segment's labels outside the holdout"


def holdout_said(record: dict[str, Any]) -> str:
    """Which rows were held out, as people say it."""
    start, end = record["holdout"]["start"], record["holdout"]["end"]
    return f"{start} to {end}" if start else "a tenth of the rows, chosen by a hash of each"


def segment_errors(table: pa.Table) -> pd.DataFrame:
    """A row a segment with holdout rows: WAPE of each candidate, who serves, label sum; the largest error first."""
    frame = table.to_pandas()
    frame = frame[frame["count"].fillna(0) > 0].copy()
    scale = frame["label_absolute"].where(frame["label_absolute"] > 0)
    for candidate in EXPLAINED:
        frame[f"{candidate} wape"] = pd.to_numeric(frame[f"{candidate}_absolute"]) / scale
    frame["serves"] = frame["chosen"]
    frame["error above baseline"] = frame["served_absolute"] - frame["baseline_absolute"]
    columns = [
        "segment",
        "serves",
        *[f"{c} wape" for c in EXPLAINED],
        "error above baseline",
        "label_absolute",
        "count",
        "reason",
    ]
    named = {"label_absolute": "label sum", "count": "rows"}
    return frame.sort_values("served_absolute", ascending=False)[columns].rename(columns=named)


def worst_segments(errors: pd.DataFrame, count: int = WORST) -> pd.DataFrame:
    """The segments whose served error exceeds the baseline's most."""
    return errors.sort_values("error above baseline", ascending=False).head(count)


def error_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row a candidate: the metric asked for, the others that have a value, what it is."""
    explained = EXPLAINED if record["holdout"]["start"] else {**EXPLAINED, "baseline": MEAN, "median": MIDDLE}
    if record["metrics"]["log_loss"]["baseline"] is not None:
        explained = {**explained, "baseline": RATE}
    worth = record.get("worth")
    asked = [name for name, errors in record["metrics"].items() if any(error is not None for error in errors.values())]
    return pd.DataFrame(
        [
            {
                "candidate": name,
                record["metric"]: record["errors"][name],
                **{metric: record["metrics"][metric][name] for metric in asked},
                **{said: worth[key].get(name) for key, said in WORTH.items() if worth},
                "what it is": said,
            }
            for name, said in explained.items()
        ]
    )


def scatter_plot(errors: pd.DataFrame) -> Figure:
    """Each segment's WAPE, model against baseline; below the line the model wins."""
    title = "Error by segment on the holdout: challenger against baseline (WAPE)"
    return errors_against(title, errors, ("baseline wape", "challenger wape"), "serves", SERVES)


def totals_plot(record: dict[str, Any]) -> Figure:
    """Total error of each candidate."""
    better = "higher" if record["metric"] in LARGEST_IS_BEST else "lower"
    figure, axes = new_figure(f"Total {record['metric']} on the holdout, {better} is better", 6.2, 2.6)
    known = {name: error for name, error in record["errors"].items() if error is not None}
    colours = {**SERVES, "served": VIOLET, "challenger": BLUE, "incumbent": GREY}
    axes.barh(list(known)[::-1], list(known.values())[::-1], color=[colours[name] for name in list(known)[::-1]])
    return figure


def write_report(lake: Lake, name: str, record: dict[str, Any], table: pa.Table, run_id: str, plots: list[str]) -> str:
    """Writes the HTML page of an evaluation into the lake and gives its URI; `plots` are PNGs as base64."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    errors = segment_errors(table)
    page = template.render(
        name=name,
        record=record,
        run_id=run_id,
        holdout=holdout_said(record),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        totals=error_table(record).to_dict("records"),
        metrics=[column for column in error_table(record) if column not in ("candidate", "what it is")],
        worst=worst_segments(errors, WORST_IN_REPORT).to_dict("records"),
        segments=len(table),
        judged=len(errors),
        serving={said: int((errors["serves"] == name).sum()) for name, said in SERVES_SAID.items()},
        better=int((errors["error above baseline"] < 0).sum()),
        plots=plots,
        intervals=interval_table(record).to_dict("records") if record.get("quantiles") else [],
    )
    return lake.write_file("reports/evaluation.html", page.encode())
