"""Predictions of committed models for the rows of a bucket, next to the rows: for judging and for forecasting alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.models.blend import ALL_BASELINE, Weights, blended, rest_of, served_by, serves, weights_of, with_weight
from assets.models.bucket import Bucket, SegmentRows, read_bucket
from assets.models.fit import predict
from assets.models.fleet_model import identity_columns, load_fleet_model
from assets.models.line import BASELINE, FLEET_MODEL, SEGMENT_MODEL
from assets.models.quantiles import QUANTILES, Quantiles, quantiles_of
from assets.models.shard import boosters
from assets.models.store import TRAINING, WEIGHTS, places_in
from assets.raw.recipe import Recipe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Targets = Mapping[str, Ints]  # periods to predict, by segment


@dataclass(frozen=True)
class ModelGroup:
    """The models of one training: its recipe, feature files by bucket that fit it, and its fleet-wide model."""

    training: str
    recipe: Recipe
    files: Mapping[int, tuple[str, ...]]
    fleet_file: str | None


@dataclass(frozen=True)
class Candidate:
    """A fleet as workers use it: who serves each segment, and the models of the trainings it is made of.

    `unlisted` (a training, and weights by candidate) serves segments that the listing does not know.
    """

    lake: str
    listing: str
    groups: tuple[ModelGroup, ...]
    unlisted: tuple[str, Weights] | None = None

    def places(self, bucket: int, keys: Sequence[str]) -> pa.Table:
        """A row (see `PLACES`) for each of a bucket's segments that something is known of."""
        known = places_in(self.listing, bucket)
        if self.unlisted is None:
            return known
        wanted = pa.array(keys, pa.string())
        absent = wanted.filter(pc.invert(pc.is_in(wanted, known["segment"].combine_chunks())))
        training, weights = self.unlisted
        added = {"segment": absent, TRAINING: [training] * len(absent), **served_by(weights, len(absent))}
        blank = {f.name: added.get(f.name, pa.nulls(len(absent), f.type)) for f in known.schema}
        return pa.concat_tables([known, pa.table(blank, schema=known.schema)])


@dataclass(frozen=True)
class Predictions:
    """What the models of a fleet say of some segments' target periods, and with which weights it is served."""

    parts: Mapping[str, Mapping[str, Floats]]
    weights: Mapping[str, Weights]
    quantiles: Mapping[str, Quantiles]

    def served(self, segment: str, baselines: Mapping[str, Floats]) -> tuple[Floats, NDArray[np.bool_]]:
        """What is served, given the baselines' forecasts, and in which rows not the first of these alone."""
        parts = {**self.parts.get(segment, {}), **baselines}
        return blended(self.weights.get(segment, ALL_BASELINE), parts, baselines[BASELINE])

    def needs_baselines(self, segment: str, rows: int) -> bool:
        """Whether a baseline has a part in what is served of some of a segment's rows."""
        weights, parts = self.weights.get(segment, ALL_BASELINE), self.parts.get(segment, {})
        return bool((rest_of(weights, parts, rows) > 0).any())

    def serves(self, segment: str) -> str:
        """Who serves a segment: one candidate, or `blend`."""
        return serves(self.weights.get(segment, ALL_BASELINE))


def candidate_predictions(
    candidate: Candidate,
    bucket: Bucket,
    number: int,
    recipe: Recipe,
    targets: Targets,
    fit: str,
    *,
    only_serving: bool,
) -> Predictions:
    """Predictions for the target periods of each of a bucket's target segments, by each model that it has.

    `fit` is `judged` or `served`. With `only_serving`, just by models that have a part in what is served. A prediction
    is NaN where the model's recipe has no row of features. `bucket` is that of the recipe, read with its identity
    columns.
    """
    places = candidate.places(number, list(targets))
    usable = places.filter(pc.is_in(places[TRAINING], pa.array([g.training for g in candidate.groups], pa.string())))
    listed = usable.select(["segment", "chosen", *WEIGHTS]).to_pylist()
    weights = {row["segment"]: weights_of(row) for row in listed}
    around = {row["segment"]: quantiles_of(row) for row in places.select(["segment", *QUANTILES.names]).to_pylist()}
    parts: dict[str, dict[str, Floats]] = {key: {} for key in targets}
    for key, model, predicted in _parts(candidate, places, bucket, number, recipe, targets, fit, only_serving):
        parts[key][model] = predicted
    return Predictions(parts, weights, around)


def _parts(
    candidate: Candidate,
    places: pa.Table,
    bucket: Bucket,
    number: int,
    recipe: Recipe,
    targets: Targets,
    fit: str,
    only_serving: bool,
) -> Iterator[tuple[str, str, Floats]]:
    for group in candidate.groups:
        mine = places.filter(pc.equal(places[TRAINING], group.training))
        if not len(mine):
            continue
        own = _rows_of(group, bucket, number, recipe)
        rows = {each.key: each for each in own.segments() if each.key in targets}
        mine = mine.filter(pc.is_in(mine["segment"], pa.array(list(rows), pa.string())))
        by_model = with_weight(mine, SEGMENT_MODEL) if only_serving else mine
        for key, booster in boosters(candidate.lake, by_model, fit):
            x, there = rows[key].at(targets[key])
            yield key, SEGMENT_MODEL, np.where(there, predict(booster, x, group.recipe.model), np.nan)
        by_fleet = with_weight(mine, FLEET_MODEL) if only_serving else mine
        yield from _fleet_predictions(candidate.lake, group, own, rows, by_fleet["segment"].to_pylist(), targets, fit)


def _rows_of(group: ModelGroup, bucket: Bucket, number: int, recipe: Recipe) -> Bucket:
    if group.recipe.shapes_like(recipe):
        return bucket
    return read_bucket(group.files.get(number, ()), group.recipe, identity_columns(group.recipe))


def _fleet_predictions(
    lake: str,
    group: ModelGroup,
    own: Bucket,
    rows: Mapping[str, SegmentRows],
    keys: Sequence[str],
    targets: Targets,
    fit: str,
) -> Iterator[tuple[str, str, Floats]]:
    model = load_fleet_model(lake, group.fleet_file, fit) if group.fleet_file and keys else None
    if model is None:
        return
    found = [rows[key].places(targets[key]) for key in keys]
    places = np.concatenate([place for place, _ in found])
    predicted = model.predict(own, places, group.recipe)
    ends = np.cumsum([len(place) for place, _ in found])[:-1]
    for key, values, (_, there) in zip(keys, np.split(predicted, ends), found, strict=True):
        yield key, FLEET_MODEL, np.where(there, values, np.nan)
