"""What a snapshot is like, found once and kept: profile and recipe, or every reason why nothing could be trained."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from assets.raw.kinds import column_kinds
from assets.raw.parse import Kind, rule_view
from assets.raw.profile import Profile, moments_of, profile_of
from assets.raw.recipe import Recipe, recipe_of, too_long
from assets.raw.rules import failed_at_work, refuse_unusable, rules_of
from assets.raw.segment_facts import mixed_frequencies, segment_facts, untrainable
from assets.raw.snapshot import RAW, read_snapshot
from assets.raw.timeless import inspect_without_time
from resources.lake import Lake
from resources.problems import InputError
from resources.settings import SHAPES_NOTHING, Settings
from resources.spark import Spark, spark_errors

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def inspect(raw: DataFrame, settings: Settings) -> tuple[Profile, Recipe]:
    """Profile and recipe of raw rows.

    Raises:
        InputError: nothing could be trained from them; every reason is listed.
    """
    rows, rules = raw.count(), rules_of(settings)
    kinds = column_kinds(raw, settings, rows)
    if rules:
        refuse_unusable(rule_view(raw, settings, kinds), rules)
    try:
        return _inspect(raw, settings, kinds, rows)
    except spark_errors() as error:
        raise failed_at_work(error, rules) or error from None


def _inspect(raw: DataFrame, settings: Settings, kinds: dict[str, Kind], rows: int) -> tuple[Profile, Recipe]:
    from pyspark import StorageLevel

    if settings.time is None:
        return inspect_without_time(raw, settings, kinds)
    moments = moments_of(raw, settings, kinds, rows).persist(StorageLevel.DISK_ONLY)
    try:
        profile = profile_of(moments, settings, kinds, dict(raw.dtypes)[settings.time])
        recipe = recipe_of(settings, profile)
        facts = segment_facts(moments, profile.times, recipe)
    finally:
        moments.unpersist()
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
    profile, _ = inspect(read_snapshot(spark, table, settings), settings)
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
