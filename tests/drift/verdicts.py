"""Verdicts on drift as they lie in the lake, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from assets.drift.verdict import DRIFT, DriftVerdict, latest_drift
from assets.features.publish import SEGMENTS, current_features
from assets.raw.parse import KEY
from resources.files import write_parquet
from resources.lake import Lake

SCHEMA = pa.schema([("segment", pa.string()), ("alarmed", pa.bool_()), ("since", pa.int64()), ("why", pa.string())])


def commit_verdict(
    lake: Lake, alarmed: Sequence[str], digest: str | None = None, since: int | None = None, why: str = "data"
) -> DriftVerdict:
    """A verdict that some segments drifted, on the features that there are, by default in their last period."""
    features = current_features(lake)
    known = lake.table(SEGMENTS).arrow([KEY], version=features.record["segments_version"])[KEY].to_pylist()
    every = sorted({*known, *alarmed})
    by = features.profile.last_period if since is None else since
    flags = [key in alarmed for key in every]
    rows = pa.table([every, flags, [by] * len(every), [why] * len(every)], schema=SCHEMA)
    record = {
        "evidence": digest or "-".join(sorted(alarmed)),
        "new": len(alarmed),
        "share": len(alarmed) / len(known),
        "judged": len(known),
        "through": "2024-03-01",
        "features_version": features.version,
    }
    with lake.table(DRIFT).staging() as staging:
        write_parquet(rows, f"{staging.uri}/drift.parquet")
        lake.table(DRIFT).commit(staging, SCHEMA, record)
    found = latest_drift(lake)
    assert found is not None
    return found
