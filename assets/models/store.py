"""Trainings and their models in the lake: what was trained, when, by which recipe, and where each model lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.models.shard import LINE, unpacked
from assets.raw.recipe import Recipe
from resources.lake import Lake, filesystem

if TYPE_CHECKING:
    from lightgbm import Booster

MODELS, TRAINING = "models", "training"
LISTING = pa.schema(
    [*[field for field in LINE if field.name != "shard"], ("training", pa.string()), ("shard", pa.string())]
)


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


def trainings(lake: Lake) -> dict[str, Training]:
    """All committed trainings by id, newest first."""
    records = lake.table(MODELS).records().values()
    return {record["training"]: Training(record["training"], record) for record in records if record}


def latest_training(lake: Lake) -> Training | None:
    """The training committed last."""
    return next(iter(trainings(lake).values()), None)


def listing_of(lake: Lake, training: Training) -> pa.Table:
    """A row (see `LISTING`) for each segment of a training; `shard` is relative to the table of models."""
    table = lake.table(MODELS)
    columns = [field.name for field in LINE]
    rows = table.arrow(columns=columns, where=[(TRAINING, "=", training.id)])
    files = table.files(where=[(TRAINING, "=", training.id)])
    places = {file.rsplit("/", 1)[-1]: relative(file, table.uri) for file in files}
    shards = pc.dictionary_encode(rows["shard"].combine_chunks())
    located = pa.array([places[name] for name in shards.dictionary.to_pylist()], pa.string()).take(shards.indices)
    named = rows.drop_columns(["shard"]).append_column("shard", located)
    named = named.append_column(TRAINING, pa.array([training.id] * len(rows), pa.string()))
    return named.select(LISTING.names).cast(LISTING)


@dataclass(frozen=True)
class ShardPart:
    """Some segments' models in one shard file."""

    file: str
    segments: frozenset[str]


def relative(file: str, table_uri: str) -> str:
    """A file's path below its table, which stays right when the lake is moved."""
    return file[file.rindex(table_uri.rsplit("/", 1)[-1] + "/data-") :].split("/", 1)[1]


def shards_by_bucket(lake: Lake, listing: pa.Table) -> dict[int, list[ShardPart]]:
    """For each bucket the shard files of the listed segments that have a model."""
    found: dict[int, list[ShardPart]] = {}
    trained = listing.filter(pc.equal(listing["status"], "trained"))
    grouped = trained.group_by(["bucket", "shard"]).aggregate([("segment", "list")])
    for row in grouped.to_pylist():
        file = f"{lake.table(MODELS).uri}/{row['shard']}"
        found.setdefault(row["bucket"], []).append(ShardPart(file, frozenset(row["segment_list"])))
    return found


def boosters(parts: Iterable[ShardPart], column: str) -> Iterator[tuple[str, Booster]]:
    """Segments and their boosters; `column` is `served` or `judged`. One row group in memory at a time."""
    import pyarrow.parquet as pq

    for part in parts:
        system, path = filesystem(part.file)
        with system.open_input_file(path) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(batch_size=64, columns=["segment", column]):
                for key, model in zip(batch["segment"].to_pylist(), batch[column].to_pylist(), strict=True):
                    if model is not None and key in part.segments:
                        yield key, unpacked(model)
