"""Explanations of a bucket's segments, next to their rows: written by Spark workers, sums given back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.explanations.attribution import BINS, UNCLEAR, contributions, direction, histogram, shares
from assets.models.blend import weights_of, with_weight
from assets.models.bucket import Bucket, SegmentRows, categorical_positions, read_bucket
from assets.models.fleet_model import SERVED, identity_columns, load_fleet_model
from assets.models.line import FLEET_MODEL, SEGMENT_MODEL
from assets.models.packing import unpacked_whole
from assets.models.predictions import Candidate, ModelGroup
from assets.models.shard import stored_models
from assets.models.store import TRAINING, places_in
from assets.raw.parse import KEY
from resources.files import write_parquet

Floats = NDArray[np.float64]
SHOWN = 5  # features a segment
ROWS, ROWS_OF_FLEET = 26, 8  # newest labelled rows; the fleet-wide model's trees are many and deep
EXPLAINED = pa.schema(
    [
        ("segment", pa.string()),
        ("source", pa.string()),
        ("weight", pa.float64()),
        ("rank", pa.int32()),
        ("feature", pa.string()),
        ("share", pa.float64()),
        ("direction", pa.int8()),
        ("rows", pa.int32()),
        ("version", pa.int64()),
        ("reason", pa.string()),
    ]
)
OF_FEATURE = pa.struct(
    [("feature", pa.string()), ("total", pa.float64()), ("first", pa.int64()), ("histogram", pa.list_(pa.int64()))]
)
WRITTEN = pa.schema(
    [
        ("file", pa.string()),
        ("segments", pa.int64()),
        (f"by_{SEGMENT_MODEL}", pa.int64()),
        (f"by_{FLEET_MODEL}", pa.int64()),
        ("spent", pa.float64()),
        ("features", pa.list_(OF_FEATURE)),
    ]
)
NO_MODEL, NO_ROWS, NO_SPLIT = "only baselines serve it", "no rows any more", "its model uses no feature"
NO_TRAINING = "its model was trained for another question, or on columns that are gone"


@dataclass
class Explained:
    """The rows of some segments (see `EXPLAINED`), and each feature's sums over them."""

    version: int
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    by_source: dict[str, int] = field(default_factory=dict)
    of_features: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, segment: str, source: str, weight: float, x: Floats, values: Floats, inputs: Inputs) -> None:
        """A segment's SHAP values `values` for rows `x`."""
        found = shares(values)
        if not found.any():
            self.leave_out(segment, NO_SPLIT)
            return
        ranked = np.argsort(-found, kind="stable")
        ranked = ranked[found[ranked] > 0]
        self.rows[segment] = [
            {
                "segment": segment,
                "source": source,
                "weight": weight,
                "rank": rank,
                "feature": inputs.names[at],
                "share": float(found[at]),
                "direction": UNCLEAR if at in inputs.codes else direction(x[:, at], values[:, at]),
                "rows": len(x),
                "version": self.version,
            }
            for rank, at in enumerate(ranked[:SHOWN].tolist(), start=1)
        ]
        self.by_source[source] = self.by_source.get(source, 0) + 1
        for name, share in zip(inputs.names, found.tolist(), strict=True):
            blank = {"total": 0.0, "first": 0, "histogram": [0] * BINS}
            sums = self.of_features.setdefault(name, blank)
            sums["total"] += share
            sums["first"] += name == inputs.names[ranked[0]]
            sums["histogram"][histogram(share)] += 1

    def leave_out(self, segment: str, reason: str) -> None:
        """A segment without an explanation, and why."""
        self.rows[segment] = [{"segment": segment, "rows": 0, "version": self.version, "reason": reason[:500]}]


@dataclass(frozen=True)
class Inputs:
    """What a model sees: names of its inputs, and the places of those that are codes of categories."""

    names: list[str]
    codes: frozenset[int]

    @classmethod
    def of(cls, group: ModelGroup, *, fleet: bool) -> Inputs:
        """The inputs of a training's own models, or of its fleet-wide one, which sees the segment as well."""
        own, codes = group.recipe.features, categorical_positions(group.recipe)
        identity = ["segment" if name == KEY else name for name in identity_columns(group.recipe)] if fleet else []
        return cls([*own, *identity], frozenset([*codes, *range(len(own), len(own) + len(identity))]))


def explain_bucket(number: int, champion: Candidate, version: int, folder: str) -> Iterator[dict[str, Any]]:
    """Writes the explanations of a bucket's segments as one file under `folder`, and says what it holds.

    A segment is explained by its own model where that has a part in what serves it, else by the fleet-wide one.
    """
    started, found = time.perf_counter(), Explained(version)
    places = places_in(champion.listing, number)
    for group in champion.groups:
        mine = places.filter(pc.equal(places[TRAINING], group.training))
        if len(mine) and group.files.get(number):
            _explain_group(champion.lake, group, number, mine, found)
    trained_by = {group.training for group in champion.groups}
    for row in places.to_pylist():
        if row["segment"] not in found.rows:
            found.leave_out(row["segment"], _why_not(row, trained_by))
    if not found.rows:
        return
    name = f"bucket-{number:05d}-{uuid.uuid4().hex}.parquet"
    rows = [row for key in sorted(found.rows) for row in found.rows[key]]
    write_parquet(pa.Table.from_pylist(rows, EXPLAINED), f"{folder}/{name}")
    yield {
        "file": name,
        "segments": len(found.rows),
        f"by_{SEGMENT_MODEL}": found.by_source.get(SEGMENT_MODEL, 0),
        f"by_{FLEET_MODEL}": found.by_source.get(FLEET_MODEL, 0),
        "spent": time.perf_counter() - started,
        "features": [{"feature": feature, **sums} for feature, sums in found.of_features.items()],
    }


def _why_not(row: Mapping[str, Any], trained_by: set[str]) -> str:
    weights = weights_of(row)
    if not weights.get(SEGMENT_MODEL) and not weights.get(FLEET_MODEL):
        return NO_MODEL
    return NO_ROWS if row[TRAINING] in trained_by else NO_TRAINING


def _explain_group(lake: str, group: ModelGroup, number: int, mine: pa.Table, found: Explained) -> None:
    """Explains the segments of one training."""
    bucket = read_bucket(group.files[number], group.recipe, identity_columns(group.recipe))
    segments = {rows.key: rows for rows in bucket.segments()}
    mine = mine.filter(pc.is_in(mine["segment"], pa.array(list(segments), pa.string())))
    weights = {row["segment"]: weights_of(row) for row in mine.to_pylist()}
    by_model, inputs = with_weight(mine, SEGMENT_MODEL), Inputs.of(group, fleet=False)
    for stored in stored_models(lake, by_model, SERVED):
        key = stored.segment
        try:
            x = segments[key].x[newest(segments[key], ROWS)]
            values = contributions(unpacked_whole(stored.checked()), x)
            found.add(key, SEGMENT_MODEL, weights[key][SEGMENT_MODEL], x, values, inputs)
        except Exception as error:  # one segment's model is no reason to leave the others unexplained
            found.leave_out(key, f"{type(error).__name__}: {error}")
    own = set(by_model["segment"].to_pylist())
    rest = [key for key in with_weight(mine, FLEET_MODEL)["segment"].to_pylist() if key not in own]
    if rest and group.fleet_file:
        parts = {key: weights[key][FLEET_MODEL] for key in rest}
        try:
            _explain_by_fleet(lake, group, bucket, [segments[key] for key in rest], parts, found)
        except Exception as error:
            for key in rest:
                found.leave_out(key, f"{type(error).__name__}: {error}")


def _explain_by_fleet(
    lake: str,
    group: ModelGroup,
    bucket: Bucket,
    segments: Sequence[SegmentRows],
    weights: Mapping[str, float],
    found: Explained,
) -> None:
    model = load_fleet_model(lake, group.fleet_file or "", SERVED, whole=True)
    if model is None:  # there was too little to fit it on: its share is the baseline's
        return
    inputs, chosen = Inputs.of(group, fleet=True), [rows.first_row + newest(rows, ROWS_OF_FLEET) for rows in segments]
    x = model.inputs(bucket, np.concatenate(chosen))
    values, start = contributions(model.booster, x), 0
    for rows, places in zip(segments, chosen, strict=True):
        mine = slice(start, start + len(places))
        found.add(rows.key, FLEET_MODEL, weights[rows.key], x[mine], values[mine], inputs)
        start = mine.stop


def newest(rows: SegmentRows, count: int) -> NDArray[np.int64]:
    """Places of a segment's newest labelled rows; of its newest rows where none has a label."""
    labelled = np.flatnonzero(~np.isnan(rows.labels))
    return (labelled if len(labelled) else np.arange(len(rows.labels)))[-count:]
