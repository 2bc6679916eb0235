"""Rows of the committed features as models see them, a bucket at a time, read without Spark."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow.compute as pc

from assets.champions.serving.question import FeatureRows, Inputs
from assets.champions.serving.refusal import NotServableError
from assets.features.grid import known_grid
from assets.features.point_in_time import point_in_time
from assets.features.publish import FeatureSet
from assets.features.rebuild import BucketFiles, committed_files
from assets.models.bucket import Bucket, as_bucket, read_bucket
from assets.raw.parse import PERIOD
from assets.raw.recipe import Recipe
from resources.lake import Lake

# how the rows of a bucket are shaped: without inputs, with those of the committed recipe, or with another training's
NO_INPUTS, AS_COMMITTED = "no inputs", "as committed"


class CommittedRows:
    """The rows of one version of the features."""

    def __init__(self, lake: Lake, features: FeatureSet) -> None:
        self._lake, self._features = lake, features
        self._recipe, self._profile = features.recipe, features.profile

    @cached_property
    def _files(self) -> BucketFiles:
        return committed_files(self._lake, self._features)

    def read(self, bucket: int, recipe: Recipe | None, past: bool) -> FeatureRows:
        """The rows of a bucket, those of the horizon or with `past` all, with a recipe's inputs or without any.

        Raises:
            NotServableError: the recipe looks at columns that the committed features do not have.
        """
        files, after = self._files.get(bucket, ()), None if past else self._profile.last_period
        if not files:
            return FeatureRows({}, np.empty(0, np.int64), np.empty(0), np.empty((0, 0)))
        if recipe is None:
            return _feature_rows(read_bucket(files, self._recipe.without_inputs(), after=after))
        if recipe.shapes_like(self._recipe):
            return _feature_rows(read_bucket(files, recipe, after=after))
        return _feature_rows(self._by_another_recipe(files, recipe, after))

    def _by_another_recipe(self, files: tuple[str, ...], recipe: Recipe, after: int | None) -> Bucket:
        """Features of a recipe that is not the committed ones', worked out again from the committed rows.

        Raises:
            NotServableError: the recipe looks at columns that the committed features do not have.
        """
        committed = self._recipe
        of_past = [name for name, column, _ in recipe.lagged if column != recipe.label]
        of_past += [name for name, column in recipe.newest if column != recipe.label]
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
        raw = read_bucket(files, committed.without_inputs(), [*recipe.known_ahead, *of_past]).table
        alone = recipe.model_copy(update={"past_only": []})
        grid = known_grid(recipe.model_dump_json(), self._profile.to_json())
        built = point_in_time(raw, alone, grid, self._profile.last_period)
        return as_bucket(built.filter(pc.greater(built[PERIOD], after)) if after is not None else built, recipe)


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
