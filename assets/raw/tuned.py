"""What a search for the fleet has chosen: kept in the lake, and part of the recipe from then on.

A choice has an entry for each size of segment that something better than the defaults was found for:

    from, below       labelled rows of the segments that it is for; `below` null: any number
    rounds            trees; null: as many as the recipe says
    leaves            by what the leaves that follow the rows are multiplied
    rows_a_leaf       by what the least rows of a leaf are
    objective         LightGBM's; null: the recipe's
    without           a group of features that models do not look at; null: they look at all
    params            other parameters of LightGBM's
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from assets.raw.recipe import Recipe
from resources.lake import Lake
from resources.settings import Settings

TUNED = "tuned"  # in `recipe.model`; where models are fitted, assets/models/fit.py, it stands as it is
CHOSEN = "tuning/chosen.json"
LAGS, WINDOWS, CALENDAR = "lags", "windows", "calendar"


def kept_choice(lake: Lake) -> dict[str, Any]:
    """The record of the last search; empty before the first."""
    record: dict[str, Any] = json.loads(lake.read_file(CHOSEN) or b"{}")
    return record


def keep_choice(lake: Lake, record: dict[str, Any]) -> None:
    """Replaces the record of the last search, as a whole."""
    lake.write_file(CHOSEN, json.dumps(record, sort_keys=True).encode())


def question(recipe: Recipe, settings: Settings) -> str:
    """Digest of what a choice is an answer to: the problem, the metric, and all that the user wrote of `model`."""
    written = {name: getattr(settings.model, name) for name in sorted(settings.model.model_fields_set)}
    return _digest([recipe.problem_digest, recipe.metric, recipe.horizon, written])


def with_tuned(recipe: Recipe, lake: Lake, settings: Settings) -> Recipe:
    """The recipe with what the last search chose, if that was an answer to the same question."""
    if not settings.tuning.enabled:
        return recipe
    record = kept_choice(lake)
    if record.get("question") != question(recipe, settings) or not record["chosen"]:
        return recipe
    return with_entries(recipe, record["chosen"])


def with_entries(recipe: Recipe, entries: list[dict[str, Any]]) -> Recipe:
    """The recipe with some entries of a choice, of features as they are now."""
    return recipe.model_copy(update={"model": {**recipe.model, TUNED: [_resolved(each, recipe) for each in entries]}})


def untuned(recipe: Recipe) -> Recipe:
    """The recipe without what a search has chosen."""
    return recipe.model_copy(update={"model": {name: each for name, each in recipe.model.items() if name != TUNED}})


def feature_groups(recipe: Recipe) -> dict[str, frozenset[str]]:
    """Features that can be done without, by group; not one that holds all there are, or none."""
    groups = {
        LAGS: frozenset(
            [name for name, *_ in recipe.lagged]
            + [name for name, _ in recipe.newest]
            + [name for name, _ in recipe.seasonal]
        ),
        WINDOWS: frozenset(name for name, _, _ in recipe.rolled),
        CALENDAR: frozenset(name for name in recipe.features if name.startswith("calendar@")),
    }
    return {name: group for name, group in groups.items() if group and len(group) < len(recipe.features)}


def configuration_digest(settings: Settings, recipe: Recipe) -> str:
    """Digest of what shapes results: the settings, and the parameters that a search has put into the recipe."""
    tuned = recipe.model.get(TUNED)
    return _digest([settings.digest, tuned]) if tuned else settings.digest


def _resolved(entry: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    group = feature_groups(recipe).get(entry["without"] or "")
    if not group:
        return entry
    # a gain of nothing is never split on: the matrix keeps its columns
    looked_at = {"feature_contri": [0.0 if name in group else 1.0 for name in recipe.features]}
    return {**entry, "params": {**entry["params"], **looked_at}}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
