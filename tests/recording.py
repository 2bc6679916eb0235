"""A fleet's trainings as Dagster gets to know them: listings recorded by runs, without anything being trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from dagster import (
    AssetKey,
    AssetRecordsFilter,
    AssetsDefinition,
    BackfillPolicy,
    DagsterInstance,
    asset,
)

from assets.models.events import record_materializations
from assets.models.store import LISTING
from assets.partitions import segments_partitions

KEY = AssetKey(["tiny", "segment_models"])
SEGMENTS = "tiny/segments"


def listing(statuses: dict[str, str], training: str = "t1") -> pa.Table:
    """A training's listing, in chunks as the buckets leave it; rows are numbered by segment."""
    rows = [
        {
            **dict.fromkeys(LISTING.names),
            "segment": key,
            "status": status,
            "rows": n,
            "fold_count": 0,
            "training": training,
        }
        for n, (key, status) in enumerate(statuses.items())
    ]
    chunks = [pa.Table.from_pylist(rows[start : start + 300], LISTING) for start in range(0, len(rows), 300)]
    return pa.concat_tables(chunks)


def recording(listed: pa.Table, training: str = "t1") -> AssetsDefinition:
    """`segment_models` of a fleet whose training gave this listing."""

    @asset(
        key=KEY,
        partitions_def=segments_partitions(SEGMENTS),
        backfill_policy=BackfillPolicy.single_run(),
        output_required=False,
        code_version="1",
        deps=[AssetKey(["tiny", "features"])],
    )
    def segment_models(context) -> Iterator[Any]:  # type: ignore[no-untyped-def]
        count = record_materializations(context, listed, "wape", training)
        context.log.info(f"{count} models")
        yield from ()

    return segment_models


def marks(instance: DagsterInstance) -> list[tuple[str | None, int]]:
    """Partition and row count of every materialization there is, in the order they were stored."""
    found = instance.fetch_materializations(AssetRecordsFilter(KEY), limit=10_000, ascending=True).records
    return [(record.partition_key, record.asset_materialization.metadata["rows"].value) for record in found]
