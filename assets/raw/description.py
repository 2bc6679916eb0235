"""What people are shown of a snapshot: how many segments it names, which lack most labels, what the label is like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from assets.raw.parse import KEY, TIME

if TYPE_CHECKING:
    from assets.raw.profile import Timeline

WORST = 10
QUANTILES = (0.1, 0.5, 0.9)
MOST_POINTS = 400
SAMPLED_ROWS = 400_000


class Description(BaseModel):
    """A snapshot in a table and a plot.

    `segments` counts those that its rows name, usable or not. `emptiest` are the ten with the most rows without a
    usable label: `segment`, `rows`, `empty labels` and, with time, the `first` and the `last`. `label` are the columns
    of a plot: `time`, `low`, `median`, `high`, or without time `label` (where a span begins), `width`, `rows`.
    """

    segments: int
    emptiest: list[dict[str, Any]]
    label: dict[str, list[Any]]


def emptiest_of(moments: pa.Table) -> tuple[int, list[dict[str, Any]]]:
    """How many segments some moments (of whole segments) name, and the ten that lack most labels."""
    found = moments.group_by(KEY).aggregate([([], "count_all"), ("label", "count"), (TIME, "min"), (TIME, "max")])
    empty = pc.subtract(found["count_all"], found["label_count"])
    columns = [found[KEY], found["count_all"], empty, found[f"{TIME}_min"], found[f"{TIME}_max"]]
    table = pa.table(columns, ["segment", "rows", "empty labels", "first", "last"])
    order = [("empty labels", "descending"), ("rows", "ascending"), ("segment", "ascending")]
    worst = table.take(pc.select_k_unstable(table, k=WORST, sort_keys=order)).to_pylist()
    return found.num_rows, [{name: _shown(value) for name, value in each.items()} for each in worst]


def _shown(value: Any) -> Any:
    return value if value is None or isinstance(value, int | str) else str(value)


def emptiest_first(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The ten of some segments that lack most labels."""
    worst = sorted(found, key=lambda each: (-each["empty labels"], each["rows"], each["segment"]))
    return [dict(each) for each in worst[:WORST]]


def sample_of(moments: pa.Table, timeline: Timeline, parts: int) -> pa.Table:
    """Labels of some moments with the span of time that each lies in: `span`, `label`; evenly strewn if they are many.

    Parts of a table give at most 400,000 rows together. There are at most 400 spans from the first time on.
    """
    last = pa.scalar(timeline.last_label.to_pydatetime(), pa.timestamp("us"))
    known = moments.filter(pc.and_(pc.is_valid(moments["label"]), pc.less_equal(moments[TIME], last)))
    step = max(1, -(-known.num_rows * parts // SAMPLED_ROWS))
    taken = known.take(pa.array(np.arange(0, known.num_rows, step)))
    start, width = _spans(timeline)
    micros = taken[TIME].cast(pa.int64()).to_numpy()
    return pa.table({"span": np.floor((micros / 1e6 - start) / width).astype(np.int32), "label": taken["label"]})


def _spans(timeline: Timeline) -> tuple[float, float]:
    """Where the spans of the plot begin, and how long each is, in seconds."""
    seconds = (timeline.last_label - timeline.first_time).total_seconds()
    return timeline.first_time.timestamp(), max(seconds / MOST_POINTS, 1.0)


def label_quantiles(sample: pa.Table, timeline: Timeline) -> dict[str, list[Any]]:
    """Quantiles of a sample's labels over segments in each span of time: `time`, `low`, `median`, `high`."""
    span, label = sample["span"].to_numpy(), sample["label"].to_numpy()
    order = np.lexsort((label, span))
    span, label = span[order], label[order]
    begins = np.flatnonzero(np.concatenate([[True], span[1:] != span[:-1]])[: len(span)])
    rows = np.diff(begins, append=len(span))
    start, width = _spans(timeline)
    seconds = span[begins] * width + start
    times = np.round(seconds * 1e3).astype("datetime64[ms]").astype(str).tolist()
    at = [begins + np.maximum(np.ceil(q * rows).astype(int) - 1, 0) for q in QUANTILES]
    return {"time": times, **{name: label[p].tolist() for name, p in zip(("low", "median", "high"), at, strict=True)}}
