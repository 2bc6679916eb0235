"""A published fleet and the features committed last, read from the lake as rows are asked for; without Spark."""

from __future__ import annotations

import os
import time
from threading import Lock

from assets.champions.lake_view import LakeView
from assets.champions.served_listing import Published, ServedListing
from assets.champions.serving.boosters import Loaded
from assets.champions.serving.cache import Cache, from_environment
from assets.champions.serving.question import FeatureRows
from assets.features.publish import FEATURES, current_features
from resources.lake import Lake

MODELS_VARIABLE, FEATURES_VARIABLE = "FLEET_SERVING_MODELS_MB", "FLEET_SERVING_FEATURES_MB"
LAKE_VARIABLE, REFRESH_VARIABLE = "FLEET_SERVING_LAKE", "FLEET_SERVING_REFRESH_SECONDS"
MODELS_MB, FEATURES_MB, REFRESH_SECONDS = 512, 256, 60
MEGABYTE = 1e6


class ServedFleet:
    """A published fleet, pinned when it is made, and the features committed last, looked for once in a while."""

    def __init__(self, published: Published) -> None:
        """Reads who serves which segment.

        Raises:
            InputError: the fleet is not in the lake any more, or an environment variable is no number.
        """
        self._lake = Lake(uri=os.environ.get(LAKE_VARIABLE) or published.lake)
        self._listing = ServedListing(self._lake, published)
        self.models: Cache[Loaded] = Cache(from_environment(MODELS_VARIABLE, MODELS_MB) * MEGABYTE)
        self.features: Cache[FeatureRows] = Cache(from_environment(FEATURES_VARIABLE, FEATURES_MB) * MEGABYTE)
        self._refresh = from_environment(REFRESH_VARIABLE, REFRESH_SECONDS)
        self._lock, self._view, self._looked = Lock(), self._new_view(), time.monotonic()

    @property
    def lake(self) -> str:
        """The folder or bucket that the fleet is read from."""
        return self._lake.root

    def view(self) -> LakeView:
        """The fleet beside the features committed last."""
        with self._lock:
            if time.monotonic() - self._looked >= self._refresh:
                if self._lake.table(FEATURES).version() != self._view.features.version:
                    self._view = self._new_view()
                self._looked = time.monotonic()
            return self._view

    def _new_view(self) -> LakeView:
        return LakeView(self._lake, self._listing, current_features(self._lake), self.models, self.features)
