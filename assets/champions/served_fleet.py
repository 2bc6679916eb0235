"""A published fleet and the committed features, read from the lake as rows are asked for; without Spark."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.champions.served_files import loaded_fleet_model, packed_models, where_of
from assets.champions.serving.boosters import Loaded, LoadedFleetModel, whole_booster
from assets.champions.serving.cache import Cache, from_environment
from assets.champions.serving.known import KnownSegments, Sorted
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
from assets.champions.serving.refusal import LostModelsError, NotServableError
from assets.evaluation.incumbent import CHAMPIONS, PUBLISHED, listing_digest
from assets.features.grid import known_grid
from assets.features.point_in_time import point_in_time
from assets.features.publish import FEATURES, SEGMENTS, FeatureSet, current_features, mean_label
from assets.features.rebuild import BucketFiles, committed_files
from assets.models.baseline import seasonal_naive
from assets.models.bucket import Bucket, as_bucket, read_bucket
from assets.models.fleet_model import SERVED
from assets.models.store import TRAINING, Training, trainings
from assets.partitions import bucket_of
from assets.raw.parse import KEY, PERIOD
from assets.raw.recipe import Recipe
from assets.raw.snapshot import RAW
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.pruned import refuse_pruned

MODELS_VARIABLE, FEATURES_VARIABLE = "FLEET_SERVING_MODELS_MB", "FLEET_SERVING_FEATURES_MB"
REFRESH_VARIABLE = "FLEET_SERVING_REFRESH_SECONDS"
MODELS_MB, FEATURES_MB, REFRESH_SECONDS = 512, 256, 60
MEGABYTE = 1e6
FLEET, AS_COMMITTED = "fleet.json", "as committed"
DIGEST = f"{SERVED}_digest"
LISTED = ("segment", "chosen", TRAINING, "shard", DIGEST)
NO_INPUTS: dict[str, list[str]] = {"known_ahead": [], "lags": [], "windows": [], "calendar_features": []}


@dataclass(frozen=True)
class Published:
    """What a registered version says of itself: the lake, and which of the published fleets in it is meant."""

    lake: str
    published: str
    training: str
    digest: str | None = None

    def to_json(self) -> str:
        """As the file `fleet.json` of a registered version has it."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Published:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


class ServedFleet:
    """A published fleet, pinned when it is made, and the features committed last, looked for once in a while."""

    def __init__(self, published: Published) -> None:
        """Reads who serves which segment.

        Raises:
            InputError: the fleet is not in the lake any more, or an environment variable is no number.
        """
        self._lake, self._published = Lake(uri=published.lake), published
        self._listing = _listing(self._lake, published)
        self._keys = Sorted(self._listing["segment"])
        self.models: Cache[Loaded] = Cache(from_environment(MODELS_VARIABLE, MODELS_MB) * MEGABYTE)
        self.features: Cache[FeatureRows] = Cache(from_environment(FEATURES_VARIABLE, FEATURES_MB) * MEGABYTE)
        self._refresh = from_environment(REFRESH_VARIABLE, REFRESH_SECONDS)
        self._lock, self._view, self._looked = Lock(), self._new_view(), time.monotonic()

    def view(self) -> LakeView:
        """The fleet beside the features committed last."""
        with self._lock:
            if time.monotonic() - self._looked >= self._refresh:
                self._looked = time.monotonic()
                if self._lake.table(FEATURES).version() != self._view.features.version:
                    self._view = self._new_view()
            return self._view

    def _new_view(self) -> LakeView:
        return LakeView(self, self._lake, current_features(self._lake), self._published.training)

    def places(self, keys: Sequence[str], unlisted: Training | None) -> list[Place]:
        """Who serves each of some segments; those that the fleet never heard of are the newest training's."""
        found = self._keys.places(keys)
        rows = iter(self._listing.take(pa.array([at for at in found if at is not None], pa.int64())).to_pylist())
        chosen, training = (unlisted.serves_unproven, unlisted.id) if unlisted else ("", None)
        return [
            Place(key, chosen, training, None)
            if at is None
            else Place(*(row[name] for row in [next(rows)] for name in LISTED))
            for key, at in zip(keys, found, strict=True)
        ]

    def trained_by(self) -> set[str]:
        """The trainings that serve, and the newest of them, which serves segments that are new."""
        return {*filter(None, pc.unique(self._listing[TRAINING]).to_pylist()), self._published.training}


def _listing(lake: Lake, published: Published) -> pa.Table:
    where = f"the fleet published as {published.published} in {lake.root}"
    if not lake.table(CHAMPIONS).exists():
        raise InputError([Problem(where, "is not there", "is this the lake that it was published in?")])
    rows = lake.table(CHAMPIONS).arrow(where=[(PUBLISHED, "=", published.published)])
    if not len(rows):
        refuse_pruned(lake, CHAMPIONS, published.published, where)
        raise InputError([Problem(where, "is not there", "serve a version that is")])
    if published.digest not in (None, listing_digest(rows.drop_columns([PUBLISHED]))):
        raise InputError([Problem(where, "has other rows than were published", "run the weekly cycle: fleet run")])
    if DIGEST not in rows.column_names:
        rows = rows.append_column(DIGEST, pa.nulls(len(rows), pa.string()))
    rows = rows.select(LISTED).sort_by("segment")
    dense = {name: rows[name].dictionary_encode() for name in ("chosen", TRAINING, "shard")}
    return pa.table({name: dense.get(name, rows[name]) for name in LISTED}).combine_chunks()


class LakeView:
    """See `assets.champions.serving.answer.View`."""

    def __init__(self, fleet: ServedFleet, lake: Lake, features: FeatureSet, newest: str) -> None:
        self.features, self._fleet, self._lake = features, fleet, lake
        self._recipe, self._profile = features.recipe, features.profile
        known = trainings(lake)
        mine = {key: known[key] for key in sorted(fleet.trained_by()) if key in known}
        # a training that answers another question is left out, as it is by batch forecasts
        self._trainings = {
            key: each for key, each in mine.items() if each.recipe.problem_digest == self._recipe.problem_digest
        }
        self._recipes = {key: each.recipe for key, each in self._trainings.items()}
        self._shapes = {
            key: AS_COMMITTED if recipe.shapes_like(self._recipe) else key for key, recipe in self._recipes.items()
        }
        self._newest = known.get(newest)
        # forecasts are made by the season that fleet.yaml has now, which shapes no feature
        self._season = next(iter(known.values())).recipe.season if known else self._recipe.season
        listed = lake.table(SEGMENTS).arrow([KEY, *self._recipe.segment], version=features.record["segments_version"])
        self.segments = KnownSegments(listed, KEY, self._recipe.segment)
        self.question = self._question()

    def _question(self) -> Question:
        recipe, last = self._recipe, self._profile.last_period
        span = Span(last, recipe.horizon)
        if timeline := self._profile.timeline:
            first, end = str(timeline.first_time), str(timeline.last_label)
            span = Span(last, recipe.horizon, timeline.frequency, timeline.phase, first, end)
        table = self._lake.table(RAW)
        raw = table.schema(self.features.record["raw_version"]).names if table.exists() else []
        return Question(
            segment=tuple(recipe.segment),
            time=recipe.time,
            label=recipe.label,
            columns=frozenset({*raw, *recipe.kinds}),
            span=span,
            inputs={key: inputs_of(own, last) for key, own in self._recipes.items()},
        )

    @cached_property
    def _files(self) -> BucketFiles:
        return committed_files(self._lake, self.features)

    @cached_property
    def _mean(self) -> float:
        return mean_label(self._lake, self.features)

    def places(self, keys: Sequence[str]) -> list[Place]:
        """Who serves each of some known segments."""
        return self._fleet.places(keys, self._newest)

    def rows(self, key: str, training: str | None, past: bool) -> SegmentFeatures:
        """Committed rows of a segment, those of the horizon or with `past` all; without a training: without inputs."""
        recipe, shape = self._recipes.get(training or ""), self._shapes.get(training or "")
        bucket = bucket_of(key, self.features.buckets)
        found = self._fleet.features.loaded(
            (self.features.version, bucket, shape, past),
            lambda: self._read(bucket, recipe, shape, past),
            lambda rows: rows.size,
        )
        return found.of(key)

    def _read(self, bucket: int, recipe: Recipe | None, shape: str | None, past: bool) -> FeatureRows:
        files, after = self._files.get(bucket, ()), None if past else self._profile.last_period
        if not files:
            return FeatureRows({}, np.empty(0, np.int64), np.empty(0), np.empty((0, 0)))
        if recipe is None:
            return _feature_rows(read_bucket(files, self._recipe.model_copy(update=NO_INPUTS), after=after))
        if shape == AS_COMMITTED:
            return _feature_rows(read_bucket(files, recipe, after=after))
        return _feature_rows(self._by_another_recipe(files, recipe, after))

    def _by_another_recipe(self, files: tuple[str, ...], recipe: Recipe, after: int | None) -> Bucket:
        """Features of a recipe that is not the committed ones', worked out again from the committed rows.

        Raises:
            NotServableError: the recipe looks at columns that the committed features do not have.
        """
        committed = self._recipe
        of_past = [name for name, column, _ in recipe.lagged if column != recipe.label]
        lost = [name for name in of_past if name not in committed.features]
        lost += [
            name
            for name in recipe.known_ahead
            if name not in committed.known_ahead or recipe.kinds.get(name) != committed.kinds.get(name)
        ]
        if lost:
            what = f"its models look at {', '.join(map(repr, lost))}, which the committed features do not have any more"
            raise NotServableError(f"the champion was trained by another recipe: {what}; promote a fleet trained anew")
        if recipe.time is None:
            return read_bucket(files, recipe, after=after)
        raw = read_bucket(files, committed.model_copy(update=NO_INPUTS), [*recipe.known_ahead, *of_past]).table
        alone = recipe.model_copy(update={"past_only": []})
        grid = known_grid(recipe.model_dump_json(), self._profile.to_json())
        built = point_in_time(raw, alone, grid, self._profile.last_period)
        return as_bucket(built.filter(pc.greater(built[PERIOD], after)) if after is not None else built, recipe)

    def boosters(self, places: Sequence[Place]) -> Mapping[str, Loaded]:
        """The segments' own models.

        Raises:
            LostModelsError: some are missing, or not those that were fitted; all are named.
        """
        found: dict[str, Loaded] = {}
        absent: list[Place] = []
        lost: list[str] = []
        for place in places:
            held = self._fleet.models.get((place.shard, place.segment))
            if held is None:
                absent.append(place)
            else:
                found[place.segment] = held
        for place, model in packed_models(self._lake.root, absent, lost):
            try:
                loaded = whole_booster(model, place.digest, where_of(place))
            except LostModelsError as error:
                lost.append(str(error))
                continue
            found[place.segment] = loaded
            self._fleet.models.put((place.shard, place.segment), loaded, loaded.size)
        if lost:
            raise LostModelsError("\n".join(lost))
        return found

    def fleet_file(self, training: str) -> str | None:
        """The fleet-wide model's file, relative to the lake; None where there is none."""
        return self._trainings[training].fleet_file

    def fleet_model(self, training: str) -> LoadedFleetModel | None:
        """The fleet-wide model of a training; None where there is none.

        Raises:
            LostModelsError: it is missing, or not the one that was fitted.
        """
        file = self.fleet_file(training)
        return None if file is None else loaded_fleet_model(self._lake.root, file)

    def baseline(self, key: str, periods: Ints) -> Floats:
        """The baseline's forecasts of a segment: for the horizon from the last label, as batch forecasts are.

        For a time of the past from what was known a horizon before it.
        """
        last = self._profile.last_period
        past = self.rows(key, None, past=True)
        known = past.periods <= last
        origins = np.where(periods > last, last, periods - self._recipe.horizon)
        history = past.periods[known], past.labels[known]
        return seasonal_naive(*history, periods, origins, self._season, self._mean)


def inputs_of(recipe: Recipe, last: int) -> Inputs:
    """What the models of a recipe look at, where the fleet's last label is of period `last`."""
    text = set(recipe.text_features)
    categories = recipe.categories
    return Inputs(
        features=tuple(recipe.features),
        known_ahead=tuple(recipe.known_ahead),
        kinds=dict(recipe.kinds),
        categories={name: categories.get(name.rsplit("@", 1)[0], categories.get(name, [])) for name in text},
        label_transform=recipe.model["label_transform"],
        through=last + recipe.horizon,
    )


def _feature_rows(bucket: Bucket) -> FeatureRows:
    begins = {rows.key: (rows.first_row, rows.first_row + len(rows.periods)) for rows in bucket.segments()}
    return FeatureRows(begins, bucket.periods, bucket.labels, bucket.x)
