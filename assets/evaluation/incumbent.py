"""The incumbent: the fleet that has served until now, as the registry's alias names it, if it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from assets.features.publish import FeatureSet
from assets.models.quantiles import QUANTILES
from assets.models.store import WEIGHTS, Training, trainings
from assets.models.wholeness import missing_files, set_aside_corrupt
from assets.raw.recipe import Recipe
from resources.lake import Lake
from resources.mlflow import CHAMPION, Mlflow
from resources.pruned import refuse_pruned

CHAMPIONS, PUBLISHED = "champions", "published"
# what became of a registered version; only those that were approved, once, may serve
STATUS = "status"
PENDING, SHADOW, REJECTED, EXPIRED, SUPERSEDED = "pending", "shadow", "rejected", "expired", "superseded"
APPROVED, WITHDRAWN = "approved", "withdrawn"
NEVER_SERVED = (PENDING, SHADOW, REJECTED, EXPIRED, SUPERSEDED)
REPLACES, LISTING_DIGEST = "replaces", "listing_digest"


@dataclass(frozen=True)
class Champion:
    """A published fleet: its version and, a row a segment, who serves and where its model lies."""

    version: int
    tags: Mapping[str, str]
    listing: pa.Table

    @property
    def trainings(self) -> list[str]:
        """The trainings its models come from."""
        return sorted(key for key in self.listing["training"].unique().to_pylist() if key)


@dataclass(frozen=True)
class Standing:
    """Who serves, and why it is not the version that the alias `champion` names, where it is not."""

    champion: Champion | None
    problems: tuple[str, ...] = ()


def standing(lake: Lake, mlflow: Mlflow) -> Standing:
    """The version that the alias `champion` names or, where that cannot serve, the nearest before it that can.

    A version can serve if it passed the gate, its rows are as published, and the files of its models are there.

    Raises:
        InputError: the alias was moved to a fleet that was pruned.
    """
    named = mlflow.aliased(CHAMPION)
    if named is None:
        return Standing(None)
    problems: list[str] = []
    for tags in _in_turn(mlflow, named):
        found = published_fleet(lake, tags)
        if isinstance(found, Champion):
            return Standing(found, tuple(problems))
        problems.append(found)
    return Standing(None, tuple(problems))


def published_champion(lake: Lake, mlflow: Mlflow, alias: str = CHAMPION) -> Champion | None:
    """The fleet that serves; None before the first promotion. With another alias: the fleet that this one names.

    Raises:
        InputError: the alias was moved to a fleet that was pruned.
    """
    if alias == CHAMPION:
        return standing(lake, mlflow).champion
    tags = mlflow.aliased(alias)
    found = published_fleet(lake, tags, never_served=True) if tags else None
    return found if isinstance(found, Champion) else None


def whole_standing(lake: Lake, mlflow: Mlflow) -> Standing:
    """As `standing`, with every model that serves read and compared with its digest: what is corrupt falls out."""
    found = standing(lake, mlflow)
    while found.champion is not None and set_aside_corrupt(lake, found.champion.listing, trainings(lake)):
        found = standing(lake, mlflow)
    return found


def whole_champion(lake: Lake, mlflow: Mlflow) -> Champion | None:
    """The fleet that serves, every model of which was read and is the one that was fitted."""
    return whole_standing(lake, mlflow).champion


def published_fleet(lake: Lake, tags: Mapping[str, str], *, never_served: bool = False) -> Champion | str:
    """The fleet of a registered version, or why it cannot serve. `never_served`: it may be one that waits for approval.

    Raises:
        InputError: it was pruned.
    """
    name = f"version {tags['version']}"
    if PUBLISHED not in tags:
        return f"{name} was not registered by this fleet"
    if tags.get(STATUS) in NEVER_SERVED and not never_served:
        return f"{name} is {tags[STATUS]}: it was never approved"
    rows = published_rows(lake, tags[PUBLISHED])
    if rows is None or not len(rows):
        refuse_pruned(lake, CHAMPIONS, tags[PUBLISHED], f"champion {tags['version']}")
        return f"{name} has lost its rows: the file of {PUBLISHED}={tags[PUBLISHED]} is not there or cannot be read"
    if LISTING_DIGEST in tags and not is_as_published(rows, tags[LISTING_DIGEST]):
        return f"{name} has other rows than were published"
    if lost := missing_files(lake, rows, trainings(lake)):
        return f"{name} has lost {len(lost):,} files of models, such as {lost[0]}"
    return Champion(int(tags["version"]), tags, rows)


def is_as_published(listing: pa.Table, digest: str) -> bool:
    """Whether a fleet's rows are those of a digest. Columns that later code added count for nothing while empty."""
    later = [[], QUANTILES.names, [*QUANTILES.names, *WEIGHTS]]
    without = ([name for name in names if _is_empty(listing, name)] for names in later)
    return any(listing_digest(listing.drop_columns(names)) == digest for names in without)


def _is_empty(listing: pa.Table, column: str) -> bool:
    return column in listing.column_names and listing[column].null_count == len(listing)


def listing_digest(listing: pa.Table) -> str:
    """Digest (24 hexadecimal digits) of a fleet's rows, whatever their order and that of the columns."""
    import pyarrow.parquet as pq

    ordered = listing.select(sorted(listing.column_names)).sort_by("segment").combine_chunks()
    sink = pa.BufferOutputStream()
    pq.write_table(ordered.replace_schema_metadata(), sink)
    return hashlib.blake2b(sink.getvalue(), digest_size=12).hexdigest()


def published_rows(lake: Lake, published: str) -> pa.Table | None:
    """The rows that were published under a name; None where a file of them is lost. Empty: there never were any."""
    try:
        rows = lake.table(CHAMPIONS).arrow(where=[(PUBLISHED, "=", published)])
    except (OSError, pa.ArrowException):  # no table yet, or a file of it was lost
        return None
    return rows.drop_columns([PUBLISHED])


def _in_turn(mlflow: Mlflow, named: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The version that the alias names, and those before it, newest first."""
    by_number = None
    seen: set[str] = set()
    tags: Mapping[str, str] | None = named
    while tags is not None and tags["version"] not in seen:
        yield tags
        seen.add(tags["version"])
        by_number = by_number or {each["version"]: each for each in mlflow.versions()}
        before = tags.get(REPLACES) if PUBLISHED in tags else None
        # an alias that was moved by hand says nothing of what served before
        tags = by_number.get(before or mlflow.model_tags().get(CHAMPION, ""))


def recipes_of(lake: Lake, champion: Champion) -> list[Recipe]:
    """The recipes that a champion's models were trained by."""
    known = trainings(lake)
    return [known[identity].recipe for identity in champion.trainings if identity in known]


def answers(lake: Lake, champion: Champion, recipe: Recipe) -> bool:
    """Whether a champion answers a recipe's question: same segments, time, label, frequency, and rows held out."""
    return all(
        (theirs.problem_digest, theirs.split_by) == (recipe.problem_digest, recipe.split_by)
        for theirs in recipes_of(lake, champion)
    )


def clean_after(champion: Champion, known: Mapping[str, Training]) -> int | None:
    """The last period that anything about a champion can have been chosen by: the last label known to its trainings."""
    seen = [known[key].record["trained_through"] for key in champion.trainings if key in known]
    listed = [pc.max(champion.listing[name]).as_py() for name in ("trained_through", "selected_through")]
    return max((period for period in [*seen, *listed] if period is not None), default=None)


@dataclass(frozen=True)
class Incumbent:
    """The fleet that serves, if it can be compared at all: on the whole holdout, or why not, and on rows `after`."""

    champion: Champion | None
    why_not: str | None = None
    selected_through: int | None = None
    after: int = 0

    @property
    def on_holdout(self) -> Champion | None:
        """The fleet, where no row of the holdout trained its twins."""
        return None if self.why_not else self.champion


def incumbent_for(lake: Lake, features: FeatureSet, recipe: Recipe, champion: Champion | None) -> Incumbent:
    """The incumbent, and which rows are clean for it: those after all that its models or its promotion were chosen by.

    Rows without time have no order, so that none is known to be later: they are compared on the holdout itself.
    """
    if champion is None:
        return Incumbent(None, "no fleet served before")
    if not answers(lake, champion, recipe):
        return Incumbent(
            None, "it answers another question: segment, time, label, frequency or the rows held out changed"
        )
    if any(theirs.horizon < recipe.horizon for theirs in recipes_of(lake, champion)):
        return Incumbent(None, "it forecasts fewer periods ahead, from labels that are not known yet at this horizon")
    holdout_from = features.profile.last_period - recipe.holdout
    cut_offs = [pc.max(champion.listing[name]).as_py() for name in ("judged_through", "selected_through")]
    trained = max((cut_off for cut_off in cut_offs if cut_off is not None), default=holdout_from)
    seen = trained > holdout_from
    why_not = "its twins were trained or selected on rows of this holdout" if seen else None
    selected = clean_after(champion, trainings(lake)) if recipe.time else trained
    after = max(holdout_from, trained, holdout_from if selected is None else selected)
    return Incumbent(champion, why_not, selected, after)
