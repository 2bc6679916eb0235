"""Trainings in the lake: what was trained, when, by which recipe, and where each model lies."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from assets.models.blend import Weights, weights_of
from assets.models.line import FOLD_BLENDS, LINE, WEIGHTED, weight_column
from assets.models.quantiles import QUANTILES
from assets.raw.recipe import Recipe
from resources.files import filesystem, write_parquet
from resources.lake import Lake
from resources.table import Staging

MODELS, TRAINING, PRUNED = "models", "training", "pruned"
BESIDE = "beside"  # in the record of a training that is not what fleet.yaml asks for: an incumbent's recipe, refitted
UNPROVEN = "unproven"  # in the record of a training: weights for segments of which nothing was known
SELECTION = "selection"  # in the record of a training: the set of segments (see `selection`) that it was of
UNKNOWN = "unknown"  # what the records of older trainings do not say
LISTING = pa.schema(
    [*(field for field in LINE if field.name != FOLD_BLENDS), pa.field(TRAINING, pa.string()), *QUANTILES]
)
# what a worker must know of its bucket's segments to predict: who serves, and where the model lies
WEIGHTS = [weight_column(name) for name in WEIGHTED]
PLACES = [
    "segment", "bucket", "chosen", *WEIGHTS, TRAINING, "shard", "served_digest", "judged_digest", *QUANTILES.names,
]  # fmt: skip
ROWS_A_GROUP = 1_000


@dataclass(frozen=True)
class Training:
    """One training run: some or all segments, one recipe."""

    id: str
    record: dict[str, Any]

    @property
    def recipe(self) -> Recipe:
        """The recipe that was fitted."""
        return Recipe.model_validate(self.record["recipe"])

    @property
    def covers_all(self) -> bool:
        """Whether every segment was asked for."""
        return self.record["segments"] is None

    @property
    def fleet_file(self) -> str | None:
        """The fleet-wide model, relative to the lake."""
        return self.record["fleet_model"]["file"] if self.record["fleet_model"] else None

    @property
    def unproven(self) -> Weights:
        """Who serves a segment of which nothing was known at training: weights by candidate."""
        if UNPROVEN in self.record:
            return self.record[UNPROVEN]
        return weights_of({"chosen": self.record["serves_unproven"]})  # of an older version of the code


def trainings(lake: Lake) -> dict[str, Training]:
    """All committed trainings by id, newest first, without those that were pruned."""
    found: dict[str, Training] = {}
    gone: set[str] = set()
    for record in lake.table(MODELS).records().values():
        identity = record.get(TRAINING)
        gone |= set(record.get(PRUNED, []))
        # one that was trained again after it was pruned is met before the commit that pruned it
        if identity and identity not in gone:
            found.setdefault(identity, Training(identity, record))
    return found


def latest_training(lake: Lake) -> Training | None:
    """The training committed last, but for those `BESIDE` it."""
    return next((each for each in trainings(lake).values() if not each.record.get(BESIDE)), None)


def listing_of(lake: Lake, training: Training) -> pa.Table:
    """A row (see `LISTING`) for each segment of a training, by bucket and segment; `shard` is relative to the lake."""
    table = lake.table(MODELS)
    there = set(table.schema().names)
    known = [name for name in LISTING.names if name in there]
    return as_listing(table.arrow(columns=known, where=[(TRAINING, "=", training.id)]))


def as_listing(rows: pa.Table) -> pa.Table:
    """The columns of `LISTING` of some rows; null where an older version of the code wrote none."""
    return aligned(rows, LISTING)


def aligned(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a schema of some rows; null where they have none of a name."""
    there = set(rows.column_names)
    columns = [rows[f.name].cast(f.type) if f.name in there else pa.nulls(len(rows), f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def shards_of(lake: Lake, identities: Iterable[str]) -> set[str]:
    """Shards, relative to the lake, that the listings of some trainings name; one listing in memory at a time."""
    found: set[str] = set()
    for identity in identities:
        rows = lake.table(MODELS).arrow(columns=["shard"], where=[(TRAINING, "=", identity)])
        found |= set(rows["shard"].drop_null().unique().to_pylist())
    return found


def write_lines(staging: Staging, identity: str, lines: pa.Table) -> None:
    """Stages a training's lines, by bucket, so that a worker finds its bucket's without reading the others."""
    write_parquet(lines, f"{staging.uri}/{TRAINING}={identity}/lines.parquet", row_group_size=ROWS_A_GROUP)


@contextmanager
def shared_listing(lake: Lake, listing: pa.Table) -> Iterator[str]:
    """A file with the `PLACES` of a listing, by bucket, for workers to read; gone when the `with` block ends."""
    with shared_rows(lake, as_listing(listing).select(PLACES)) as uri:
        yield uri


@contextmanager
def shared_rows(lake: Lake, rows: pa.Table) -> Iterator[str]:
    """A file of rows a segment, by `bucket`, for workers to read; gone when the `with` block ends."""
    uri = lake.path(f"shared/{uuid.uuid4().hex}.parquet")
    rows = rows.sort_by([("bucket", "ascending"), ("segment", "ascending")])
    try:
        write_parquet(rows, uri, row_group_size=ROWS_A_GROUP)
        yield uri
    finally:
        system, path = filesystem(uri)
        system.delete_file(path)


def places_in(listing: str, bucket: int) -> pa.Table:
    """The `PLACES` of one bucket's segments."""
    import pyarrow.parquet as pq

    system, path = filesystem(listing)
    return pq.read_table(path, filesystem=system, filters=[("bucket", "=", bucket)])
