"""The rows of a snapshot on their way to features: judged by those who read them, handed over to who builds buckets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from assets.features.placed import Placed, Placing, place_frame, place_plain
from assets.features.settled import Folders, Settled, decided, settle
from assets.raw.plain import plain_reading
from assets.raw.profile import Profile
from assets.raw.recipe import Recipe
from assets.raw.rules import failed_at_work, rules_of
from assets.raw.snapshot import RawRows
from resources.exchange import Exchange, exchange, exchanged_in
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark, parts_for, spark_errors
from resources.spread import Say


@dataclass(frozen=True)
class Handed:
    """The rows of a snapshot, judged and handed over to those who build features of them."""

    placed: Placed
    placing: Placing
    given: Exchange

    @property
    def parts(self) -> range:
        """The numbers of the parts that rows were handed over in."""
        return range(self.given.parts)

    def valid_rows(self, part: int) -> pa.Table | None:
        """The valid rows of a part, None where it has none; for workers."""
        good, told = self.given.rows(self.placed.good, part), self.given.rows(self.placed.told, part)
        if good is None and told is None:
            return None
        valid = decided(good, told, self.placing).valid
        return valid if valid.num_rows else None

    def settle(self, spark: Spark, recipe: Recipe, folders: Folders, say: Say | None = None) -> Settled:
        """Lets workers write what becomes of the rows."""
        return settle(spark, self.placed, self.placing, recipe, self.given, folders, say)


@contextmanager
def handed_over(
    lake: Lake,
    spark: Spark,
    rows: RawRows,
    settings: Settings,
    recipe: Recipe,
    record: Mapping[str, Any],
    say: Say | None = None,
    only: frozenset[str] | None = None,
) -> Iterator[Handed]:
    """The rows of a snapshot (of some segments `only`), judged, for the time of the `with` block.

    `record` is that of a feature set: it has `profile`, `buckets` and the `raw_digest` of the snapshot.

    Raises:
        InputError: a rule of the contract fails on some row.
    """
    inputs = list(dict.fromkeys([recipe.label, *recipe.known_ahead, *recipe.past_only]))
    profile = Profile.from_json(record["profile"]).model_copy(update={"kinds": recipe.kinds})
    placing = Placing(profile.to_json(), record["buckets"], recipe.segment, inputs, only)
    reading = plain_reading(lake, rows, record["raw_digest"], settings, recipe.kinds)
    parts = min(record["buckets"], parts_for(spark.session(), rows.rows))
    with exchange(exchanged_in(lake.root, spark), parts) as given:
        try:
            if reading is not None:
                placed = place_plain(spark, rows, settings, reading, placing, given, say)
            else:
                placed = place_frame(spark, rows, settings, placing, given)
        except spark_errors() as error:
            raise failed_at_work(error, rules_of(settings)) or error from None
        yield Handed(placed, placing, given)
