"""The verdict on drift: which segments are alarmed, as the last commit of the table `drift` has them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from resources.lake import Lake
from resources.table import Table

DRIFT = "drift"


@dataclass(frozen=True)
class DriftVerdict:
    """What was found when drift was last looked at.

    `version` is the commit of the table `drift`, `digest` of its evidence: equal for equal evidence. `judged` counts
    the segments that could be judged, `share` is that of them that drifted, `new` how many of these were not alarmed
    by evidence before. `through` is the time of the last period looked at (ISO).
    """

    version: int
    digest: str
    new: int
    share: float
    judged: int
    through: str
    table: Table

    def drifted(self) -> pa.Array:
        """Keys of the alarmed segments, sorted, as in the champion listing's `segment`; read when asked for."""
        rows = self.table.arrow(["segment", "alarmed"], version=self.version)
        return pa.array(sorted(rows.filter(rows["alarmed"])["segment"].to_pylist()), pa.string())


def latest_drift(lake: Lake) -> DriftVerdict | None:
    """The newest verdict; None before drift was looked at, or where nothing could be judged yet."""
    table = lake.table(DRIFT)
    version = table.version()
    if version is None:
        return None
    said = table.record(version)
    return DriftVerdict(
        version=version,
        digest=said["evidence"],
        new=said["new"],
        share=said["share"],
        judged=said["judged"],
        through=said["through"],
        table=table,
    )
