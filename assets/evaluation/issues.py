"""Issues: every committed version of the forecasts, with the periods that each was really in force for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from assets.features.publish import FEATURES, FeatureSet
from assets.raw.calendar import nanoseconds
from assets.raw.recipe import Recipe
from resources.lake import Lake
from resources.pruned import pruned

FORECASTS, SHADOW_FORECASTS = "forecasts", "shadow_forecasts"
FOREVER = 1 << 62


@dataclass(frozen=True)
class Issue:
    """One version of the forecasts.

    `origin` is the fleet's last labelled period when it was made, `ahead` its times in microseconds since 1970. It was
    in force for the periods after `after` and up to `until`. `shadow` is the version of `shadow_forecasts` made beside
    it, `pair` the challenger and the champion (None: the baseline) that it lets one compare, and `there` says whether
    its rows were not pruned.
    """

    version: int
    record: dict[str, Any]
    origin: int
    ahead: tuple[int, ...]
    after: int
    until: int
    shadow: int | None
    pair: tuple[int, int | None] | None
    there: bool

    @property
    def end(self) -> int:
        """Its last period."""
        return self.origin + len(self.ahead)


def issues_of(lake: Lake, features: FeatureSet) -> list[Issue]:
    """The issues that answer the question of a feature set, the oldest first, told from records alone.

    A period belongs to the issue that was the newest when the period's label was not known yet: the fleet's clock goes
    on to each issue's origin and never back, and an issue is in force from there until the next one's. One that was
    replaced before any label came was in force for no period.
    """
    gone, shadows = pruned(lake, FORECASTS), _shadows(lake)
    made = list(_made(lake, features))
    clock = list(_running_maximum(origin for _, _, origin, _ in made))
    return [
        Issue(
            version=version,
            record=record,
            origin=origin,
            ahead=ahead,
            after=now,
            until=later,
            shadow=shadows.get(record["digest"], (None, None))[0],
            pair=shadows.get(record["digest"], (None, None))[1],
            there=str(version) not in gone,
        )
        for (version, record, origin, ahead), now, later in zip(made, clock, [*clock[1:], FOREVER], strict=False)
    ]


def _made(lake: Lake, features: FeatureSet) -> Iterator[tuple[int, dict[str, Any], int, tuple[int, ...]]]:
    sets, question = lake.table(FEATURES).records(), features.recipe.problem_digest

    @cache
    def known(version: int) -> tuple[bool, int, tuple[int, ...]]:
        behind = FeatureSet(version, sets[version], False)
        recipe, profile = Recipe.model_validate(behind.record["recipe"]), behind.profile
        if recipe.problem_digest != question or behind.buckets != features.buckets or profile.timeline is None:
            return False, 0, ()
        micros = nanoseconds(profile.times.ahead(recipe.horizon)) // 1000
        return True, profile.last_period, tuple(micros.tolist())

    for version, record in sorted(lake.table(FORECASTS).records().items()):
        if record.get("rows") and record.get("features_version") in sets:
            answers, origin, ahead = known(record["features_version"])
            if answers:
                yield version, record, origin, ahead


def _shadows(lake: Lake) -> dict[str, tuple[int, tuple[int, int | None]]]:
    """The newest shadow forecasts beside each issue, and whom they compare, by the issue's digest."""
    gone = pruned(lake, SHADOW_FORECASTS)
    return {
        record["issue"]: (version, (record["challenger"], record["champion"]))
        for version, record in sorted(lake.table(SHADOW_FORECASTS).records().items())
        if str(version) not in gone and "issue" in record
    }


def _running_maximum(origins: Iterable[int]) -> Iterator[int]:
    highest: int | None = None
    for origin in origins:
        highest = origin if highest is None else max(highest, origin)
        yield highest


def output_name(name: str, recipe: Recipe) -> str:
    """A column of the forecasts; prefixed where the user's key has a column of that name, in any case."""
    return free_name(name, (*recipe.segment, *recipe.time_columns))


def free_name(name: str, columns: Iterable[str]) -> str:
    """A name that none of some columns has, in any case: `name`, or `fleet_` and so on before it."""
    taken = {column.lower() for column in columns}
    while name in taken:
        name = f"fleet_{name}"
    return name
