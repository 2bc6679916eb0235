"""What a snapshot is like, found once and kept: profile and recipe, or every reason why nothing could be trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from assets.raw.description import Description
from assets.raw.kinds import column_kinds
from assets.raw.moments import Looked, look_at_frame, segment_facts, times_of
from assets.raw.parse import Kind, rule_view
from assets.raw.plain import is_plain, keep_times, look_at_plain, spark_types
from assets.raw.profile import Profile, profile_of
from assets.raw.recipe import Recipe, recipe_of, too_long
from assets.raw.rules import failed_at_work, refuse_unusable, rules_of
from assets.raw.segment_facts import mixed_frequencies, untrainable
from assets.raw.snapshot import RAW, RawRows, snapshot_rows
from assets.raw.timeless import inspect_without_time
from resources.exchange import Exchange, exchange, exchanged_in, scratch_of
from resources.lake import Lake
from resources.problems import InputError
from resources.settings import SHAPES_NOTHING, Settings
from resources.spark import Spark, parts_for, spark_errors
from resources.spread import Say

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class Inspected(NamedTuple):
    """What rows are like, the recipe that follows from it, and what people are shown of them."""

    profile: Profile
    recipe: Recipe
    description: Description


def inspect(
    spark: Spark, raw: RawRows, settings: Settings, digest: str | None = None, say: Say | None = None
) -> Inspected:
    """What rows of the raw table are like; workers read those of a plain table (see `typed`) by themselves.

    With the snapshot's `digest` it is kept how they do, for those who read the rows later.

    Raises:
        InputError: nothing could be trained from them; every reason is listed.
    """
    if raw.rows and is_plain(raw.schema, settings):
        with _given(spark, settings, raw.rows) as given, _rules_blamed(settings):
            if (seen := look_at_plain(spark, raw, settings, given, say)) is not None:
                looked, reading = seen
                found = _judged(spark, looked, settings, reading.kinds, spark_types(raw.schema)[reading.time], given)
                if digest is not None:
                    keep_times(Lake(uri=settings.lake), digest, settings, reading)
                return found
    return inspect_frame(spark, raw.frame(spark, settings), settings)


@contextmanager
def _rules_blamed(settings: Settings) -> Iterator[None]:
    """Explains what Spark raises where it is a rule that fails on some row."""
    try:
        yield
    except spark_errors() as error:
        raise failed_at_work(error, rules_of(settings)) or error from None


def _given(spark: Spark, settings: Settings, rows: int, aside: bool = False) -> AbstractContextManager[Exchange]:
    root = scratch_of(spark) if aside and spark.is_local else exchanged_in(Lake(uri=settings.lake).root, spark)
    return exchange(root, parts_for(spark.session(), rows))


def inspect_frame(spark: Spark, raw: DataFrame, settings: Settings, aside: bool = False) -> Inspected:
    """What raw rows are like, as Spark reads them, under the names that `fleet.yaml` has.

    What is put `aside` meanwhile leaves no trace in the lake, if Spark is local.

    Raises:
        InputError: nothing could be trained from them; every reason is listed.
    """
    rows = raw.count()
    kinds = column_kinds(raw, settings, rows)
    refuse_unusable(rule_view(raw, settings, kinds), rules_of(settings))
    with _rules_blamed(settings):
        if settings.time is None:
            return Inspected(*inspect_without_time(raw, settings, kinds))
        with _given(spark, settings, rows, aside) as given:
            looked = look_at_frame(raw, settings, kinds, given)
            return _judged(spark, looked, settings, kinds, dict(raw.dtypes)[settings.time], given)


def _judged(
    spark: Spark, looked: Looked, settings: Settings, kinds: dict[str, Kind], time_type: str, given: Exchange
) -> Inspected:
    profile = profile_of(times_of(looked), settings, kinds, time_type)
    recipe = recipe_of(settings, profile)
    facts, description = segment_facts(spark, looked, profile.times, recipe, given)
    problems = (
        mixed_frequencies(facts, profile.times)
        or too_long(recipe, profile.times)
        or untrainable(facts.segments, facts.trainable, recipe)
    )
    if problems:
        raise InputError(problems)
    profile = profile.model_copy(update={"repeated": facts.repeated, "segments": facts.segments})
    return Inspected(profile, recipe, description)


def snapshot_profile(lake: Lake, spark: Spark, settings: Settings) -> Profile:
    """The profile of the last snapshot for these columns, from the lake or made again.

    Raises:
        InputError: the snapshot cannot serve these columns.
        FileNotFoundError: nothing was ingested yet.
    """
    table = lake.table(RAW)
    digest = table.record().get("digest")
    if digest is None:
        raise FileNotFoundError("nothing was ingested yet: run the weekly cycle first")
    file = profile_file(digest, settings)
    if known := lake.read_file(file):
        return Profile.from_json(known)
    found = inspect(spark, snapshot_rows(table, settings), settings, digest)
    keep_inspected(lake, settings, digest, found)
    return found.profile


def keep_inspected(lake: Lake, settings: Settings, digest: str, found: Inspected) -> None:
    """Keeps profile and description of a snapshot for these columns."""
    lake.write_file(_described_file(digest, settings), found.description.model_dump_json().encode())
    lake.write_file(profile_file(digest, settings), found.profile.to_json().encode())


def description_of(lake: Lake, settings: Settings, digest: str) -> Description | None:
    """What people are shown of a snapshot, None if it was looked at by a version that kept nothing for them."""
    known = lake.read_file(_described_file(digest, settings))
    return Description.model_validate_json(known) if known else None


def _described_file(digest: str, settings: Settings) -> str:
    folder, _, name = profile_file(digest, settings).rpartition("/")
    return f"{folder}/described-{name}"


def profile_file(digest: str, settings: Settings) -> str:
    """Where the lake keeps the profile of a snapshot for these columns."""
    roles = settings.model_dump(
        mode="json", exclude={*SHAPES_NOTHING, "name", "model", "fleet_model", "failures", "checks"}
    )
    text = json.dumps([digest, roles], sort_keys=True)
    return f"profiles/{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
