"""From the champion and the features to the committed explanations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.code_version import code_version, version_of
from assets.evaluation.incumbent import Champion
from assets.evaluation.judge import candidate
from assets.explanations.attribution import BINS, quantile
from assets.explanations.explain import EXPLAINED, ROWS, ROWS_OF_FLEET, WRITTEN, explain_bucket
from assets.features.publish import FeatureSet
from assets.models.line import FLEET_MODEL, SEGMENT_MODEL
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark
from resources.spread import Say, spread

EXPLANATIONS = "explanations"
CODE_VERSION = code_version("assets.explanations.explain", "assets.explanations.attribution")
QUANTILES = {"q10": 0.1, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q90": 0.9}
MOST_FEATURES = 200  # in the record: those of the largest mean share


@dataclass(frozen=True)
class Explanations:
    """Committed explanations and what is said of them."""

    version: int
    record: dict[str, Any]
    is_new: bool


def publish_explanations(
    lake: Lake, spark: Spark, settings: Settings, features: FeatureSet, champion: Champion, say: Say | None = None
) -> Explanations:
    """Commits what the champion's models go by, a row a segment and feature; nothing if that is there already.

    Explained are the newest labelled rows when a champion is first met: the same champion is not explained again.
    """
    table = lake.table(EXPLANATIONS)
    digest = version_of(champion.tags["published"], CODE_VERSION)
    if table.record().get("digest") == digest:
        return Explanations(table.version() or 0, table.record(), False)
    buckets = sorted(champion.listing["bucket"].unique().to_pylist())
    with table.staging() as staging, candidate(lake, spark, settings, features, champion.listing) as fleet:
        work = partial(explain_bucket, champion=fleet, version=champion.version, folder=staging.uri)
        total = len(champion.listing)
        written = spread(spark, buckets, work, WRITTEN, short=True, what="explained", total=total, say=say)
        record = _record(digest, champion, features, written)
        committed = table.commit(staging, EXPLAINED, record, files=sorted(written["file"].to_pylist()))
    return Explanations(committed, record, True)


def _record(digest: str, champion: Champion, features: FeatureSet, written: pa.Table) -> dict[str, Any]:
    counted = {name: pc.sum(written[name]).as_py() or 0 for name in WRITTEN.names if name not in ("file", "features")}
    explained = counted[f"by_{SEGMENT_MODEL}"] + counted[f"by_{FLEET_MODEL}"]
    return {
        "digest": digest,
        "version": champion.version,
        "published": champion.tags["published"],
        "features_version": features.version,
        **counted,
        "rows_a_segment": {SEGMENT_MODEL: ROWS, FLEET_MODEL: ROWS_OF_FLEET},
        "features": of_fleet((each for row in written["features"].to_pylist() for each in row), explained),
    }


def of_fleet(lines: Iterable[dict[str, Any]], explained: int) -> list[dict[str, Any]]:
    """Each feature's mean share over the explained segments, its quantiles, and of how many it is the first.

    `lines` are workers' sums. A segment whose model does not know a feature has it with a share of 0.
    """
    totals: dict[str, float] = {}
    first: dict[str, int] = {}
    counts: dict[str, np.ndarray] = {}
    for line in lines:
        name = line["feature"]
        totals[name] = totals.get(name, 0.0) + line["total"]
        first[name] = first.get(name, 0) + line["first"]
        counts[name] = counts.get(name, np.zeros(BINS, dtype=np.int64)) + np.array(line["histogram"], dtype=np.int64)
    found: list[dict[str, Any]] = []
    for name, histogram in counts.items():
        histogram[0] += explained - histogram.sum()
        spread_of = {key: round(quantile(histogram, at), 4) for key, at in QUANTILES.items()}
        found.append({"feature": name, "mean": round(totals[name] / explained, 6), **spread_of, "first": first[name]})
    return sorted(found, key=lambda each: (-each["mean"], each["feature"]))[:MOST_FEATURES]
