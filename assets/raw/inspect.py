"""What a snapshot is like, found once and kept: profile and recipe, or every reason why nothing could be trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from assets.raw.kinds import column_kinds
from assets.raw.moments import Looked, look_at_frame, segment_facts, times_of
from assets.raw.parse import Kind, rule_view
from assets.raw.plain import is_plain, keep_times, look_at_plain, spark_types
from assets.raw.profile import Profile, profile_of
from assets.raw.recipe import Recipe, recipe_of, too_long
from assets.raw.rules import failed_at_work, refuse_unusable, rules_of
from assets.raw.segment_facts import mixed_frequencies, question_of, untrainable
from assets.raw.snapshot import RAW, RawRows, snapshot_rows
from assets.raw.timeless import inspect_without_time
from resources.exchange import Exchange, exchange, exchanged_in
from resources.lake import Lake
from resources.problems import InputError
from resources.settings import SHAPES_NOTHING, Settings
from resources.spark import Spark, parts_for, spark_errors
from resources.spread import Say

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def inspect(
    spark: Spark, raw: RawRows, settings: Settings, digest: str | None = None, say: Say | None = None
) -> tuple[Profile, Recipe]:
    """Profile and recipe of rows of the raw table; workers read those of a plain table (see `typed`) by themselves.

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


def _given(spark: Spark, settings: Settings, rows: int) -> AbstractContextManager[Exchange]:
    root = exchanged_in(Lake(uri=settings.lake).root, spark.is_local)
    return exchange(root, parts_for(spark.session(), rows))


def inspect_frame(spark: Spark, raw: DataFrame, settings: Settings) -> tuple[Profile, Recipe]:
    """Profile and recipe of raw rows as Spark reads them, under the names that `fleet.yaml` has.

    Raises:
        InputError: nothing could be trained from them; every reason is listed.
    """
    rows = raw.count()
    kinds = column_kinds(raw, settings, rows)
    refuse_unusable(rule_view(raw, settings, kinds), rules_of(settings))
    with _rules_blamed(settings):
        if settings.time is None:
            return inspect_without_time(raw, settings, kinds)
        with _given(spark, settings, rows) as given:
            looked = look_at_frame(raw, settings, kinds, given)
            return _judged(spark, looked, settings, kinds, dict(raw.dtypes)[settings.time], given)


def _judged(
    spark: Spark, looked: Looked, settings: Settings, kinds: dict[str, Kind], time_type: str, given: Exchange
) -> tuple[Profile, Recipe]:
    profile = profile_of(times_of(looked), settings, kinds, time_type)
    recipe = recipe_of(settings, profile)
    facts = segment_facts(spark, looked, question_of(profile.times, recipe), given)
    problems = (
        mixed_frequencies(facts, profile.times)
        or too_long(recipe, profile.times)
        or untrainable(facts.segments, facts.trainable, recipe)
    )
    if problems:
        raise InputError(problems)
    return profile.model_copy(update={"repeated": facts.repeated, "segments": facts.segments}), recipe


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
    profile, _ = inspect(spark, snapshot_rows(table, settings), settings, digest)
    write_profile(lake, settings, digest, profile)
    return profile


def write_profile(lake: Lake, settings: Settings, digest: str, profile: Profile) -> None:
    """Keeps the profile of a snapshot for these columns."""
    lake.write_file(profile_file(digest, settings), profile.to_json().encode())


def profile_file(digest: str, settings: Settings) -> str:
    """Where the lake keeps the profile of a snapshot for these columns."""
    roles = settings.model_dump(
        mode="json", exclude={*SHAPES_NOTHING, "name", "model", "fleet_model", "failures", "checks"}
    )
    text = json.dumps([digest, roles], sort_keys=True)
    return f"profiles/{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
