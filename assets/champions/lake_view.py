"""A published fleet beside one version of the committed features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from assets.champions.committed_rows import AS_COMMITTED, NO_INPUTS, CommittedRows, inputs_of
from assets.champions.served_files import loaded_fleet_model, packed_models, where_of
from assets.champions.served_listing import ServedListing
from assets.champions.serving.boosters import Loaded, LoadedFleetModel, whole_booster
from assets.champions.serving.cache import Cache
from assets.champions.serving.known import KnownSegments
from assets.champions.serving.question import FeatureRows, Floats, Ints, Place, Question, SegmentFeatures, Span
from assets.champions.serving.refusal import LostModelsError
from assets.features.publish import SEGMENTS, FeatureSet, mean_label
from assets.models.baseline import baseline_forecasts
from assets.models.store import latest_training, trainings
from assets.partitions import bucket_of
from assets.raw.parse import KEY
from assets.raw.snapshot import RAW
from resources.lake import Lake


class LakeView:
    """See `assets.champions.serving.answer.View`."""

    def __init__(
        self,
        lake: Lake,
        listing: ServedListing,
        features: FeatureSet,
        models: Cache[Loaded],
        rows: Cache[FeatureRows],
    ) -> None:
        self.features, self._lake, self._listing, self._models, self._rows = features, lake, listing, models, rows
        self.levels = listing.levels
        self._recipe, self._profile = features.recipe, features.profile
        self._committed = CommittedRows(lake, features)
        known = trainings(lake)
        mine = {key: known[key] for key in sorted(listing.trained_by()) if key in known}
        # a training that answers another question is left out, as it is by batch forecasts
        self._trainings = {
            key: each for key, each in mine.items() if each.recipe.problem_digest == self._recipe.problem_digest
        }
        self._recipes = {key: each.recipe for key, each in self._trainings.items()}
        self._shapes = {
            key: AS_COMMITTED if recipe.shapes_like(self._recipe) else key for key, recipe in self._recipes.items()
        }
        self._newest = known.get(listing.newest)
        # forecasts are made by the season that fleet.yaml has now, which shapes no feature
        newest = latest_training(lake)
        season = newest.recipe.season if newest else self._recipe.season
        self._of_baseline = self._recipe.model_copy(update={"season": season})
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
    def _mean(self) -> float:
        return mean_label(self._lake, self.features)

    def places(self, keys: Sequence[str]) -> list[Place]:
        """Who serves each of some known segments."""
        return self._listing.places(keys, self._newest)

    def rows(self, key: str, training: str | None, past: bool) -> SegmentFeatures:
        """Committed rows of a segment, those of the horizon or with `past` all; without a training: without inputs."""
        recipe = self._recipes.get(training or "")
        shape = NO_INPUTS if recipe is None else self._shapes[training or ""]
        bucket = bucket_of(key, self.features.buckets)
        found = self._rows.loaded(
            (self.features.version, bucket, shape, past),
            lambda: self._committed.read(bucket, recipe, past),
            lambda rows: rows.size,
        )
        return found.of(key)

    def boosters(self, places: Sequence[Place]) -> Mapping[str, Loaded]:
        """The segments' own models.

        Raises:
            LostModelsError: some are missing, or not those that were fitted; all are named.
        """
        found: dict[str, Loaded] = {}
        absent: list[Place] = []
        lost: list[str] = []
        for place in places:
            held = self._models.get((place.shard, place.segment))
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
            self._models.put((place.shard, place.segment), loaded, loaded.size)
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

    def baselines(self, key: str, periods: Ints) -> Mapping[str, Floats]:
        """The baselines' forecasts of a segment: for the horizon from the last label, as batch forecasts are.

        For a time of the past from what was known a horizon before it.
        """
        last = self._profile.last_period
        past = self.rows(key, None, past=True)
        known = past.periods <= last
        origins = np.where(periods > last, last, periods - self._recipe.horizon)
        history = past.periods[known], past.labels[known]
        return baseline_forecasts(self._of_baseline, *history, periods, origins, self._mean)
