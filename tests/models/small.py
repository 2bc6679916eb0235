"""One bucket of small segments, trained in this process as a Spark worker does it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assets.models.bucket import SegmentRows
from assets.models.choice import with_choice
from assets.models.line import LINE
from assets.models.segment import CutOffs
from assets.models.worker import BucketTask, Plan, train_bucket
from assets.raw.recipe import Recipe

LAST, HOLDOUT = 99, 10
SKIPPED_REASONS = ("too short", "constant label", "all labels null")


def recipe(**keys: Any) -> Recipe:
    """Two features, price and a lag; a horizon, a holdout and a fold of ten periods."""
    model = {
        "objective": "regression",
        "rounds": 20,
        "label_transform": "none",
        "params": {},
        "seed": 0,
        "blend": False,
    }
    given = {
        "segment": ["shop"], "time": "day", "label": "sold", "frequency": "D", "phase": 0, "horizon": 10,
        "kinds": {"sold": "number", "price": "number"}, "known_ahead": ["price"], "past_only": [], "lags": [10],
        "windows": [], "statistics": [], "calendar_features": [], "season": 5, "holdout": HOLDOUT,
        "minimum_history": 20, "closed_after": 10, "metric": "wape", "fleet_rows": 0,
    }  # fmt: skip
    return Recipe(**{**given, "model": {**model, **keys.pop("model", {})}, **keys})


def segment(rows: int = 110, seed: int = 0, key: str = "s") -> SegmentRows:
    """Periods 0 to 109, labels up to 99 that the first feature explains."""
    draw = np.random.default_rng(seed)
    x = np.column_stack([draw.integers(0, 5, rows).astype(float), draw.normal(size=rows)])
    labels = 20 + 5 * x[:, 0] + draw.normal(0, 0.2, rows)
    labels[LAST + 1 :] = np.nan
    return SegmentRows(key, np.arange(rows), labels, x, 0)


def changed(rows: SegmentRows, after: int, by: float = 1000.0) -> SegmentRows:
    """The segment with other labels after a period."""
    return SegmentRows(rows.key, rows.periods, np.where(rows.periods > after, rows.labels + by, rows.labels), rows.x, 0)


def bucket_file(folder: Path, segments: Sequence[SegmentRows], asked: Recipe) -> str:
    """A bucket's feature file; the key stands in the column of the segment as well."""
    columns: dict[str, Any] = {
        "__segment": [rows.key for rows in segments for _ in rows.periods],
        "__period": np.concatenate([rows.periods for rows in segments]),
        asked.label: pa.array(np.concatenate([rows.labels for rows in segments]), from_pandas=True),
    }
    columns[asked.segment[0]] = columns["__segment"]
    x = np.vstack([rows.x for rows in segments])
    columns |= {name: x[:, place] for place, name in enumerate(asked.features)}
    path = folder / "bucket.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


def plan(folder: Path, asked: Recipe | None = None, **keys: Any) -> Plan:
    """A plan for a lake in a folder."""
    given = {
        "lake": str(folder / "lake"), "recipe": asked or recipe(), "cut_offs": CutOffs.of(asked or recipe(), LAST),
        "shared": "all", "fleet_file": None, "time_limit": 60.0, "retries": 1, "anew": False,
    }  # fmt: skip
    return Plan(**{**given, **keys})


def bucket_lines(
    folder: Path, segments: Sequence[SegmentRows], asked: Recipe | None = None, task: Any = None, **keys: Any
) -> dict[str, dict[str, Any]]:
    """The lines of a bucket's training in a lake in a folder, by segment; `keys` are a plan's, and `fit`."""
    options = {"fit": keys.pop("fit")} if "fit" in keys else {}
    file = bucket_file(folder, segments, asked or recipe())
    one = BucketTask(0, (file,), **(task or {}))
    lines = list(train_bucket(one, plan(folder, asked, **keys), **options))
    assert len({line["segment"] for line in lines}) == len(lines)
    return {line["segment"]: line for line in lines}


def models_of(folder: Path, line: dict[str, Any]) -> dict[str, Any]:
    """What the shard that a line names holds of its segment."""
    rows = pq.read_table(folder / "lake" / line["shard"]).to_pylist()
    (found,) = [row for row in rows if row["segment"] == line["segment"]]
    return found


def trained(rows: SegmentRows, asked: Recipe | None = None) -> dict[str, Any]:
    """Line and models of a segment that is alone in its fleet, with who serves it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        line = bucket_lines(folder, [rows], asked)[rows.key]
        (line,) = with_choice(pa.Table.from_pylist([line], LINE), blend=False).to_pylist()
        models = models_of(folder, line) if line["shard"] else {}
    return line | {name: models[name] for name in ("served", "judged") if name in models}
