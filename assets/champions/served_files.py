"""Models that serve, read packed from the lake; a file that is missing or cannot be read is told, never passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache

import pyarrow as pa

from assets.champions.serving.boosters import LoadedFleetModel, whole_booster
from assets.champions.serving.question import Place
from assets.champions.serving.refusal import LostModelsError
from assets.models.fleet_model import SERVED, fleet_facts
from resources.files import filesystem


def where_of(place: Place) -> str:
    """How a message names a segment's own model."""
    return f"the model of segment {place.segment!r} in {place.shard}"


def packed_models(lake: str, places: Sequence[Place], lost: list[str]) -> Iterator[tuple[Place, bytes | None]]:
    """Segments' own models, None where a shard does not hold one; a shard is read once.

    Adds to `lost` what is wrong with shards that cannot be read.
    """
    for shard in dict.fromkeys(place.shard for place in places):
        wanted = [place for place in places if place.shard == shard]
        try:
            rows = _rows_of_file(lake, shard, ["segment", SERVED])
        except LostModelsError as error:
            lost.append(f"{error}; it holds the models of {', '.join(repr(place.segment) for place in wanted)}")
            continue
        at = {key: row for row, key in enumerate(rows["segment"].to_pylist())}
        for place in wanted:
            row = at.get(place.segment)
            yield place, None if row is None else rows[SERVED][row].as_py()


def packed_fleet_model(lake: str, file: str) -> tuple[bytes, str] | None:
    """The fleet-wide model of a file that serves, and its categories as JSON; None where none could be fitted.

    Raises:
        LostModelsError: it is missing, or not the one that was fitted.
    """
    (row,) = _rows_of_file(lake, file, ["categories", SERVED]).to_pylist()
    if fleet_facts(lake, file) is None:
        raise LostModelsError(f"the fleet-wide model {file} is not the one that was fitted")
    return (row[SERVED], row["categories"]) if row[SERVED] is not None else None


@lru_cache(maxsize=4)
def loaded_fleet_model(lake: str, file: str) -> LoadedFleetModel | None:
    """The fleet-wide model of a file that serves; None where none could be fitted.

    Raises:
        LostModelsError: it is missing, or not the one that was fitted.
    """
    kept = packed_fleet_model(lake, file)
    if kept is None:
        return None
    model, categories = kept
    return LoadedFleetModel(whole_booster(model, None, f"the fleet-wide model {file}").booster, json.loads(categories))


def _rows_of_file(root: str, file: str | None, columns: list[str]) -> pa.Table:
    import pyarrow.parquet as pq

    if file is None:
        raise LostModelsError("the listing names no file of models")
    try:
        system, path = filesystem(f"{root}/{file}")
        with system.open_input_file(path) as stream:
            return pq.ParquetFile(stream).read(columns=columns)
    except FileNotFoundError:
        raise LostModelsError(f"the file of models {file} is missing") from None
    except (OSError, pa.ArrowException) as error:
        raise LostModelsError(f"the file of models {file} cannot be read: {error}") from None
