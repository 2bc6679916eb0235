"""An exported fleet: everything that it answers from lies in its folder, and nothing else of this project is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assets.champions.serving.boosters import Loaded, LoadedFleetModel, whole_booster
from assets.champions.serving.cache import Cache, from_environment
from assets.champions.serving.known import KnownSegments
from assets.champions.serving.question import (
    FeatureRows,
    Floats,
    Inputs,
    Ints,
    Place,
    Question,
    SegmentFeatures,
    Span,
)
from assets.champions.serving.refusal import LostModelsError
from assets.models.blend import Weights
from assets.models.line import BASELINE, MEDIAN, WEIGHTED
from assets.models.quantiles import QUANTILES, Quantiles, quantiles_of

FOLDER, FORMAT = "fleet", 3
FLEET, LISTING, MODELS, ROWS, FLEETS = (
    "fleet.json",
    "segments.parquet",
    "models.parquet",
    "rows.parquet",
    "fleets.parquet",
)
KEY, PERIOD, BASELINE_COLUMN, MEDIAN_COLUMN = "__segment", "__period", "__baseline", "__median"
TRAINING, DIGEST, MODEL_GROUP, ROWS_GROUP = (
    "__training",
    "__digest",
    "__model_group",
    "__rows_group",
)
WEIGHT = {name: f"__weight_{name}" for name in WEIGHTED}
QUANTILE = {name: f"__{name}" for name in QUANTILES.names}
LISTED = (*WEIGHT.values(), TRAINING, DIGEST, MODEL_GROUP, *QUANTILE.values())
MODELS_VARIABLE, FEATURES_VARIABLE = "FLEET_SERVING_MODELS_MB", "FLEET_SERVING_FEATURES_MB"
MODELS_MB, FEATURES_MB, MEGABYTE = 512, 256, 1e6


class ExportedFleet:
    """The view of an exported fleet; it never changes. See `assets.champions.serving.answer.View`."""

    def __init__(self, folder: Path) -> None:
        """Reads who serves which segment.

        Raises:
            LostModelsError: the folder is not as it was exported.
        """
        self._folder = folder
        said = json.loads((folder / FLEET).read_text(encoding="utf-8"))
        if said["format"] != FORMAT:
            raise LostModelsError(f"{folder} is of format {said['format']}, and this code reads {FORMAT}")
        self.version: int | None = said["version"]
        self.levels: tuple[float, ...] = tuple(said["levels"])
        self.segments = KnownSegments(pq.read_table(folder / LISTING), KEY, said["segment"])
        self.question = Question(
            segment=tuple(said["segment"]),
            time=said["time"],
            label=said["label"],
            columns=frozenset(said["columns"]),
            span=Span(**said["span"]),
            inputs={key: Inputs.from_json(fields) for key, fields in said["inputs"].items()},
        )
        self.models: Cache[Loaded] = Cache(from_environment(MODELS_VARIABLE, MODELS_MB) * MEGABYTE)
        self._rows: Cache[FeatureRows] = Cache(from_environment(FEATURES_VARIABLE, FEATURES_MB) * MEGABYTE)
        self._fleets: dict[str, LoadedFleetModel] = {}

    def view(self) -> ExportedFleet:
        """Itself."""
        return self

    def places(self, keys: Sequence[str]) -> list[Place]:
        """Who serves each of some known segments."""
        at = pa.array(self.segments.keys.places(keys), pa.int64())
        listed = self.segments.table.select(LISTED).take(at).to_pylist()
        return [
            Place(key, _weights(row), row[TRAINING], str(row[MODEL_GROUP]), row[DIGEST], _quantiles(row))
            for key, row in zip(keys, listed, strict=True)
        ]

    def rows(self, key: str, training: str | None, past: bool) -> SegmentFeatures:
        """Exported rows of a segment, of the horizon only; their labels are the baseline's forecasts."""
        (at,) = self.segments.keys.places([key])
        group = self.segments.table[ROWS_GROUP][at].as_py()
        found = self._rows.loaded((group, training), lambda: self._read(group, training), lambda rows: rows.size)
        return found.of(key)

    def _read(self, group: int | None, training: str | None) -> FeatureRows:
        # without a training what stands in the place of inputs is the second baseline
        names = [f"f{n}" for n in range(len(self.question.inputs[training].features))] if training else [MEDIAN_COLUMN]
        if group is None:
            return FeatureRows({}, np.empty(0, np.int64), np.empty(0), np.empty((0, len(names))))
        table = _row_group(self._folder / ROWS, group, [KEY, PERIOD, BASELINE_COLUMN, *names])
        runs = pc.run_end_encode(table[KEY].combine_chunks())
        ends = runs.run_ends.to_pylist()
        begins = dict(zip(runs.values.to_pylist(), zip([0, *ends], ends, strict=False), strict=True))
        x = [table[name].to_numpy() for name in names]
        inputs = np.column_stack(x) if x else np.empty((len(table), 0))
        return FeatureRows(begins, table[PERIOD].to_numpy(), table[BASELINE_COLUMN].to_numpy(), inputs)

    def boosters(self, places: Sequence[Place]) -> Mapping[str, Loaded]:
        """The segments' own models.

        Raises:
            LostModelsError: some are missing, or not those that were exported.
        """
        found: dict[str, Loaded] = {}
        groups: dict[str, dict[str, bytes]] = {}
        for place in places:
            held = self.models.get(place.segment)
            if held is None:
                group = str(place.shard)
                if group not in groups:
                    rows = _row_group(self._folder / MODELS, int(group), [KEY, "model"])
                    groups = {group: dict(zip(rows[KEY].to_pylist(), rows["model"].to_pylist(), strict=True))}
                where = f"the model of segment {place.segment!r} in {MODELS}"
                held = whole_booster(groups[group].get(place.segment), place.digest, where)
                self.models.put(place.segment, held, held.size)
            found[place.segment] = held
        return found

    def fleet_model(self, training: str) -> LoadedFleetModel | None:
        """The fleet-wide model of a training; None where none was exported."""
        if not self._fleets:
            for row in pq.read_table(self._folder / FLEETS).to_pylist():
                loaded = whole_booster(row["model"], row["digest"], f"the fleet-wide model of {row['training']}")
                self._fleets[row["training"]] = LoadedFleetModel(loaded.booster, json.loads(row["categories"]))
        return self._fleets.get(training)

    def baselines(self, key: str, periods: Ints) -> Mapping[str, Floats]:
        """The baselines' forecasts of a segment, as they were when it was exported."""
        rows = self.rows(key, None, past=False)
        found = np.searchsorted(rows.periods, periods)
        said = {BASELINE: rows.labels[found], MEDIAN: rows.x[found, 0]}
        return {name: values for name, values in said.items() if not np.isnan(values).all()}


def _weights(row: Mapping[str, Any]) -> Weights:
    return {name: row[column] for name, column in WEIGHT.items() if row[column] is not None}


def _quantiles(row: Mapping[str, Any]) -> Quantiles:
    return quantiles_of({name: row[column] for name, column in QUANTILE.items()})


def _row_group(file: Path, group: int, columns: Sequence[str]) -> pa.Table:
    try:
        with pq.ParquetFile(file) as opened:
            return opened.read_row_group(group, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise LostModelsError(f"{file.name} cannot be read: {error}") from None
