"""What a feature table is like, found in one pass and kept: what its checks look at, and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from assets.features.publish import FEATURES, SEGMENTS, FeatureSet
from assets.raw.parse import KEY, PERIOD
from assets.remembered import known_before, remembered
from resources.frames import frame_of
from resources.lake import Lake
from resources.spark import Spark, quoted

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

FACTS = "facts"
PERCENTILES = 101
DECILES = np.linspace(0.1, 0.9, 9)
SMALLEST_SHARE = 1e-4  # what an empty bin counts as in a population stability index


def feature_facts(lake: Lake, spark: Spark, features: FeatureSet) -> dict[str, Any]:
    """Facts of a feature table's history: `rows`, `nulls` (share by feature), `infinite` (rows by feature), `label`
    (101 percentiles, the lowest first; empty without labels).
    """
    return remembered(lake, FACTS, features.digest, lambda: _found(lake, spark, features))


def _found(lake: Lake, spark: Spark, features: FeatureSet) -> dict[str, Any]:
    frame = frame_of(spark.session(), lake.table(FEATURES).files(features.version))
    history = frame.where(f"{PERIOD} <= {features.profile.last_period}")
    names, text, label = features.recipe.features, set(features.recipe.text_features), quoted(features.recipe.label)
    points = ", ".join(str(n / (PERCENTILES - 1)) for n in range(PERCENTILES))
    row = history.selectExpr(
        "count(*) as rows",
        f"percentile_approx({label}, array({points}), 10000) as label",
        *[f"count({quoted(name)}) as filled_{n}" for n, name in enumerate(names)],
        *[f"count_if(abs({quoted(c)}) = double('infinity')) as inf_{n}" for n, c in enumerate(names) if c not in text],
    ).first()
    assert row is not None, "an aggregate without groups gives one row"
    found = row.asDict()
    return {
        "rows": found["rows"],
        "nulls": {name: 1 - found[f"filled_{n}"] / max(found["rows"], 1) for n, name in enumerate(names)},
        "infinite": {name: rows for n, name in enumerate(names) if (rows := found.get(f"inf_{n}"))},
        "label": found["label"] or [],
    }


def before_this(lake: Lake, features: FeatureSet) -> FeatureSet | None:
    """The last feature set that was built from another snapshot, None if there is none."""
    for version, record in lake.table(FEATURES).records().items():
        if version < features.version and record.get("raw_digest") != features.record["raw_digest"]:
            return FeatureSet(version, record, False)
    return None


def label_shift(lake: Lake, spark: Spark, features: FeatureSet, before: FeatureSet) -> float | None:
    """Population stability index of the label, over the tenths of the feature set before; None where one is unknown.

    Formula: https://scholarworks.wmich.edu/dissertations/3208 (Yurdakul, 2018), sum of (p - q) ln(p / q).
    """
    old, new = known_before(lake, FACTS, before.digest), feature_facts(lake, spark, features)
    if not old or not old["label"] or not new["label"]:
        return None
    was, now = np.array(old["label"]), np.array(new["label"])
    edges = np.unique(was[np.round(DECILES * (PERCENTILES - 1)).astype(int)])
    return stability_index(_shares(was, edges), _shares(now, edges))


def _shares(percentiles: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    below = np.searchsorted(percentiles, edges, side="right") / len(percentiles)
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


def stability_index(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Population stability index of two lists of shares."""
    p, q = np.maximum(found, SMALLEST_SHARE), np.maximum(expected, SMALLEST_SHARE)
    return float(np.sum((p - q) * np.log(p / q)))


def segments_of(lake: Lake, features: FeatureSet) -> pd.DataFrame:
    """The list of segments behind a feature set: `__segment`, `__rows`, `__first`, `__last` and others."""
    return lake.table(SEGMENTS).arrow(version=features.record["segments_version"]).to_pandas()


def missing_periods(segments: pd.DataFrame) -> pd.DataFrame:
    """Periods without a row between a segment's first and last: `segment`, `missing`, `periods`, most missing first."""
    periods = segments["__last"] - segments["__first"] + 1
    found = (
        segments[[KEY]].assign(missing=periods - segments["__rows"], periods=periods).rename(columns={KEY: "segment"})
    )
    return found.sort_values(["missing", "segment"], ascending=[False, True])
