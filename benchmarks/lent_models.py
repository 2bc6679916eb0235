"""A larger made fleet with the models of a smaller one, so that forecasting at scale needs no hour of training.

    .venv/bin/python -m benchmarks.training --segments 5000 --folder /tmp/made
    .venv/bin/python -m benchmarks.lent_models --trained /tmp/made --folder /tmp/lent --segments 50000
    .venv/bin/python -m benchmarks.scoring --folder /tmp/lent

Each segment has a model of its own in a shard of its bucket, as training leaves them; ten of them have the same trees.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assets.features.publish import SEGMENTS
from assets.models.line import LINE, SHARD, TRAINED
from assets.models.shard import BOOSTERS, SEGMENTS_A_SHARD
from assets.models.store import MODELS, TRAINING, Training, latest_training, listing_of
from benchmarks.made_fleet import made_settings, make_fleet
from benchmarks.training import ROWS
from resources.lake import Lake


def main() -> None:
    """Makes the fleet and commits the models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--segments", type=int, default=50_000)
    given = parser.parse_args()
    make_fleet(given.folder, given.segments, ROWS, os.cpu_count() or 1)
    lend_models(Lake(uri=str(given.trained / "lake")), Lake(uri=made_settings(given.folder / "lake").lake))


def lend_models(owner: Lake, lake: Lake) -> None:
    """Commits a training of all segments of a lake, whose models are those of another lake's newest training."""
    training = latest_training(owner)
    assert training is not None, "train the smaller fleet first"
    shutil.copytree(owner.path(f"{BOOSTERS}/fleet"), lake.path(f"{BOOSTERS}/fleet"), dirs_exist_ok=True)
    listed = lake.table(SEGMENTS).arrow(["fleet_bucket", "__segment"])
    models, lines = _models(owner, training), []
    for bucket in sorted(set(listed["fleet_bucket"].to_pylist())):
        own = listed.filter(pc.equal(listed["fleet_bucket"], bucket))["__segment"].to_pylist()
        for number in range(0, len(own), SEGMENTS_A_SHARD):
            shard = f"{BOOSTERS}/{bucket:05d}/{number:020d}-lent.parquet"
            keys = sorted(own)[number : number + SEGMENTS_A_SHARD]
            rows = [row | {"segment": key} for key, row in zip(keys, islice(models, len(keys)), strict=True)]
            Path(lake.path(shard)).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows, SHARD), lake.path(shard), compression="none")
            lines += [row | {"bucket": bucket, "status": TRAINED, "shard": shard} for row in rows]
    _commit(lake, training, pa.Table.from_pylist(lines, LINE))


def _models(owner: Lake, training: Training) -> Iterator[dict[str, object]]:
    shards = listing_of(owner, training)["shard"].drop_null().unique().to_pylist()
    while True:
        for shard in shards:
            yield from pq.read_table(owner.path(shard)).to_pylist()


def _commit(lake: Lake, training: Training, lines: pa.Table) -> None:
    table = lake.table(MODELS)
    named = lines.append_column(TRAINING, pa.array([training.id] * len(lines)))
    with table.staging() as staging:
        folder = Path(staging.uri) / f"{TRAINING}={training.id}"
        folder.mkdir(parents=True)
        pq.write_table(lines, folder / "lines.parquet")
        table.commit(staging, named.schema, training.record, mode="append", partition_by=[TRAINING])


if __name__ == "__main__":
    main()
