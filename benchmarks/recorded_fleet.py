"""A fleet that nobody trained: what Spark's workers would have reported of it, and the asset that records it.

What Dagster has to do is the same as after a real training; only the hours of fitting are left out.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from dagster import AssetExecutionContext, AssetKey, AssetsDefinition, BackfillPolicy, MaterializeResult, asset

from assets.features.publish import FEATURES
from assets.models.error_sums import SUMS
from assets.models.events import record_materializations
from assets.models.line import FAILED, TRAINED
from assets.models.store import LISTING
from assets.models.train import CODE_VERSION
from assets.partitions import partition_key, segments_partitions

FAILS = 50  # one segment in so many


def segment_keys(count: int) -> list[str]:
    """Keys of two columns, store and department."""
    return [partition_key([f"store {n // 100:04}", f"department {n % 100:02}"]) for n in range(count)]


def made_listing(keys: list[str], training: str) -> pa.Table:
    """A training's listing: every fiftieth segment failed, the others were trained."""
    random = np.random.default_rng(7)
    count = len(keys)
    errors = {
        f"fold_{who}_{name}": random.gamma(9.0, scale, count)
        for who, scale in (("model", 10.0), ("baseline", 14.0))
        for name in SUMS
    }
    made = {
        "segment": keys,
        "status": [FAILED if n % FAILS == FAILS - 1 else TRAINED for n in range(count)],
        "chosen": np.where(errors["fold_model_absolute"] < errors["fold_baseline_absolute"], "segment", "baseline"),
        "rows": random.integers(140, 1_000, count),
        "trees": np.full(count, 200),
        "seconds": random.gamma(4.0, 0.05, count).round(3),
        "host": ["worker-1"] * count,
        "training": [training] * count,
        "fold_count": np.full(count, 8),
        "fold_label_absolute": np.full(count, 1_000.0),
        **errors,
    }
    columns = [pa.array(made[f.name], f.type) if f.name in made else pa.nulls(count, f.type) for f in LISTING]
    return pa.table(columns, schema=LISTING)


def recording_asset(key: AssetKey, partitions: str, listing: pa.Table, training: str) -> AssetsDefinition:
    """`segment_models` without the training: a listing, recorded by the code that records real ones."""

    @asset(
        key=key,
        partitions_def=segments_partitions(partitions),
        backfill_policy=BackfillPolicy.single_run(),
        output_required=False,
        deps=[AssetKey([*key.path[:-1], FEATURES])],
        code_version=CODE_VERSION,
    )
    def segment_models(context: AssetExecutionContext) -> Iterator[MaterializeResult]:
        marked = record_materializations(context, listing, "wape", training)
        yield MaterializeResult(metadata={"trained": marked, "segments": len(listing)})

    return segment_models
