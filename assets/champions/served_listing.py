"""Who serves which segment in a published fleet, as columns: found without an object a segment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.champions.serving.known import Sorted
from assets.champions.serving.question import Place
from assets.evaluation.incumbent import CHAMPIONS, PUBLISHED, is_as_published
from assets.models.blend import ALL_BASELINE, weights_of
from assets.models.fleet_model import SERVED
from assets.models.quantiles import LEVELS, QUANTILES, levels_in, quantiles_of
from assets.models.store import LISTING, TRAINING, WEIGHTS, Training, aligned
from resources.lake import Lake
from resources.problems import InputError, Problem
from resources.pruned import refuse_pruned

FLEET = "fleet.json"
DIGEST = f"{SERVED}_digest"
LISTED = ("segment", "chosen", *WEIGHTS, TRAINING, "shard", DIGEST, *QUANTILES.names)


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


class ServedListing:
    """The rows of a published fleet."""

    def __init__(self, lake: Lake, published: Published) -> None:
        """Reads them.

        Raises:
            InputError: they are not in the lake any more, or not those that were published.
        """
        self.newest = published.training
        self._rows = _rows(lake, published)
        self._keys = Sorted(self._rows["segment"])

    def places(self, keys: Sequence[str], unlisted: Training | None) -> list[Place]:
        """Who serves each of some segments; those that the fleet never heard of are `unlisted`'s."""
        found = self._keys.places(keys)
        listed = self._rows.take(pa.array([at for at in found if at is not None], pa.int64())).to_pylist()
        rows = iter(listed)
        return [
            _unlisted(key, unlisted) if at is None else _place(next(rows)) for key, at in zip(keys, found, strict=True)
        ]

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of the quantiles that any of its segments has."""
        return levels_in(self._rows)

    def trained_by(self) -> set[str]:
        """The trainings that serve, and the newest of them, which serves segments that are new."""
        return {*filter(None, pc.unique(self._rows[TRAINING]).to_pylist()), self.newest}


def _place(row: dict[str, Any]) -> Place:
    return Place(row["segment"], weights_of(row), row[TRAINING], row["shard"], row[DIGEST], quantiles_of(row))


def _unlisted(key: str, training: Training | None) -> Place:
    return Place(key, training.unproven if training else ALL_BASELINE, training.id if training else None, None)


def _rows(lake: Lake, published: Published) -> pa.Table:
    where = f"the fleet published as {published.published} in {lake.root}"
    if not lake.table(CHAMPIONS).exists():
        raise InputError([Problem(where, "is not there", "is this the lake that it was published in?")])
    rows = lake.table(CHAMPIONS).arrow(where=[(PUBLISHED, "=", published.published)])
    if not len(rows):
        refuse_pruned(lake, CHAMPIONS, published.published, where)
        raise InputError([Problem(where, "is not there", "serve a version that is")])
    if published.digest is not None and not is_as_published(rows.drop_columns([PUBLISHED]), published.digest):
        raise InputError([Problem(where, "has other rows than were published", "run the weekly cycle: fleet run")])
    rows = aligned(rows, pa.schema([LISTING.field(name) for name in LISTED])).sort_by("segment")
    dense = {name: rows[name].dictionary_encode() for name in ("chosen", *WEIGHTS, TRAINING, "shard", LEVELS)}
    return pa.table({name: dense.get(name, rows[name]) for name in LISTED}).combine_chunks()
