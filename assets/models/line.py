"""What is known of a segment after training: the rows that workers give back, and those kept beside its models."""

from __future__ import annotations

import pyarrow as pa

from assets.models.error_sums import SCALES, SUMS

SEGMENT_MODEL, FLEET_MODEL, BASELINE, MEDIAN, BLEND = "segment", "fleet", "baseline", "median", "blend"
WEIGHTED = (SEGMENT_MODEL, FLEET_MODEL, MEDIAN)  # whose weights a listing holds; the baseline has the rest
TRAINED, SKIPPED, FAILED = "trained", "skipped", "failed"

# who is compared on the fold before the holdout: own model, fleet-wide one, seasonal naive, seasonal median
FOLD_CANDIDATES = {
    SEGMENT_MODEL: "fold_model",
    FLEET_MODEL: "fold_fleet",
    BASELINE: "fold_baseline",
    MEDIAN: "fold_median",
}


def weight_column(candidate: str) -> str:
    """The column of a listing that holds a candidate's weight."""
    return f"weight_{candidate}"


FOLD_FORECAST = "fold_forecast"  # of the fold model, for each labelled row of the fold
_OWN_SUMS = [(f"fold_model_{name}", pa.float64()) for name in SUMS]
_FIT = [
    ("trees", pa.int32()),
    ("fits", pa.int32()),
    ("bytes", pa.int64()),
    *_OWN_SUMS,
    ("seconds", pa.float64()),
    ("finished_at", pa.timestamp("us", "UTC")),
    ("host", pa.string()),
    ("worker", pa.int32()),
    ("threads", pa.int32()),
    ("device", pa.string()),
    ("served_digest", pa.string()),
    ("judged_digest", pa.string()),
]
# beside the models in a shard: enough to know a segment again that need not be trained anew
SHARD = pa.schema(
    [
        ("segment", pa.string()),
        ("fingerprint", pa.string()),
        *_FIT,
        (FOLD_FORECAST, pa.list_(pa.float64())),
        ("served", pa.binary()),
        ("judged", pa.binary()),
    ]
)
FIT_COLUMNS = [name for name, _ in _FIT]
KNOWN_COLUMNS = [*FIT_COLUMNS, FOLD_FORECAST]
# losses on the fold, of each point of `blend.weight_grid`
FOLD_BLENDS = "fold_blends"
# what goes back through Spark, and what the table of models holds: a line a segment
LINE = pa.schema(
    [
        ("segment", pa.string()),
        ("bucket", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("chosen", pa.string()),
        *[(weight_column(name), pa.float64()) for name in WEIGHTED],
        ("rows", pa.int64()),
        ("trained_through", pa.int64()),
        ("judged_through", pa.int64()),
        ("selected_through", pa.int64()),
        ("fold_count", pa.int64()),
        *[(f"fold_{name}", pa.float64()) for name in SCALES[1:]],
        *[
            (f"{prefix}_{name}", pa.float64())
            for prefix in ("fold_fleet", "fold_baseline", "fold_median")
            for name in SUMS
        ],
        *_FIT,
        (FOLD_BLENDS, pa.binary()),
        ("reused", pa.bool_()),
        ("fingerprint", pa.string()),
        ("shard", pa.string()),
    ]
)
