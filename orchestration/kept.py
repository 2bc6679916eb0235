"""What of a lake stays: the newest of everything, what champions and the next run need, and what is pinned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assets.champions.refit import REFITS
from assets.champions.serving.watch import SAMPLE, SERVING
from assets.drift.verdict import DRIFT
from assets.evaluation.incumbent import CHAMPIONS, PUBLISHED, published_champion
from assets.evaluation.issues import FORECASTS, SHADOW_FORECASTS
from assets.evaluation.judge import EVALUATION
from assets.evaluation.live_errors import LIVE_ERRORS, LIVE_PERIODS, unscored_issues
from assets.explanations.publish import EXPLANATIONS
from assets.features.facts import before_this
from assets.features.publish import FEATURES, QUARANTINE, SEGMENTS, current_features
from assets.models.selection import SELECTIONS
from assets.models.shard import GENERATIONS
from assets.models.store import TRAINING, Training, shards_of, trainings
from assets.raw.ingest import newest_ingested
from assets.raw.snapshot import RAW
from resources.lake import Lake
from resources.mlflow import CHALLENGER, CHAMPION, PREVIOUS, Mlflow
from resources.problems import InputError, Problem
from resources.pruned import pruned, refuse_pruned

# of live errors and of what was served the newest version holds the whole history
OF_FORECASTS = (FORECASTS, SHADOW_FORECASTS, LIVE_ERRORS, LIVE_PERIODS, SERVING, SAMPLE)
VERSIONED = (RAW, FEATURES, QUARANTINE, SEGMENTS, SELECTIONS, EVALUATION, REFITS, DRIFT, EXPLANATIONS, *OF_FORECASTS)
# what a feature table was made from and with -> the key of its record that has the version
MADE_WITH = {RAW: "raw_version", QUARANTINE: "quarantine_version", SEGMENTS: "segments_version"}


@dataclass(frozen=True)
class Kept:
    """Versions of tables, trainings, published champions, and model files (relative to the lake) that stay."""

    versions: dict[str, set[int]]
    trainings: set[str]
    champions: set[str]
    models: set[str]


def kept_of(lake: Lake, mlflow: Mlflow, keep: int, pinned: Iterable[int]) -> Kept:
    """What stays of a lake if the `keep` newest of everything do (at least one), and the `pinned` snapshots.

    Raises:
        InputError: a pinned snapshot is not there.
    """
    newest = max(keep, 1)
    champions, needed = _champions(lake, mlflow, newest)
    known = trainings(lake)
    # models of the last few trainings are known again by fingerprint: the next run fits only what changed
    recent = list(known)[: max(newest, GENERATIONS)]
    stay = {identity: known[identity] for identity in known if identity in {*recent, *needed}}
    versions = {name: _newest(lake, name, newest) for name in VERSIONED}
    versions[RAW] |= _pinned(lake, pinned) | {v for v in [newest_ingested(lake)] if v is not None}
    _add_origins(lake, versions, stay.values())
    _add_unscored(lake, versions)
    files = {file for training in stay.values() if (file := training.fleet_file)}
    return Kept(versions, set(stay), champions, files | shards_of(lake, stay) | _served_shards(lake, champions))


def _champions(lake: Lake, mlflow: Mlflow, newest: int) -> tuple[set[str], set[str]]:
    """The champions that stay, as they are called in their table, and the trainings that they need."""
    table, gone = lake.table(CHAMPIONS), pruned(lake, CHAMPIONS)
    named = [published_champion(lake, mlflow, alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS)]
    records = {r[PUBLISHED]: r for r in table.records().values() if r.get(PUBLISHED) and r[PUBLISHED] not in gone}
    stay = {*list(records)[:newest], *(each.tags[PUBLISHED] for each in named if each)}
    if not stay:
        return set(), set()
    listed = table.arrow(columns=[TRAINING], where=[(PUBLISHED, "in", sorted(stay))])[TRAINING].unique().to_pylist()
    # the training that a champion was promoted with also forecasts the segments that come after it
    return stay, {*listed, *(records[each][TRAINING] for each in stay if each in records)}


def _served_shards(lake: Lake, champions: set[str]) -> set[str]:
    found: set[str] = set()
    for published in champions:
        rows = lake.table(CHAMPIONS).arrow(columns=["shard"], where=[(PUBLISHED, "=", published)])
        found |= set(rows["shard"].drop_null().unique().to_pylist())
    return found


def _newest(lake: Lake, name: str, count: int) -> set[int]:
    """The newest versions, of `count` contents: one that was brought back, or given new columns, is counted once."""
    gone = pruned(lake, name)
    found: set[int] = set()
    contents: set[str | int] = set()
    for version, record in lake.table(name).records().items():
        if str(version) not in gone:
            contents.add(record.get("digest", version))
            if len(contents) > count:
                break
            found.add(version)
    return found


def _pinned(lake: Lake, pinned: Iterable[int]) -> set[int]:
    where, asked = "fleet.yaml retention.pinned", set(pinned)
    for version in sorted(asked):
        refuse_pruned(lake, RAW, str(version), where)
    known = lake.table(RAW).records() if asked else {}
    if lost := sorted(asked - set(known)):
        remedy = f"known: {', '.join(map(str, sorted(known))) or 'none yet'}"
        raise InputError([Problem(where, f"there is no snapshot {version}", remedy) for version in lost])
    return asked


def _add_origins(lake: Lake, versions: dict[str, set[int]], stay: Iterable[Training]) -> None:
    """Adds what the trainings that stay were fitted on, and what the feature tables that stay were made from."""
    gone = {name: pruned(lake, name) for name in VERSIONED}
    for training in stay:
        versions[RAW].add(training.record["raw_version"])
        versions[FEATURES].add(training.record["features_version"])
    # its checks compare today's features with those of the snapshot before
    if lake.table(FEATURES).exists() and (before := before_this(lake, current_features(lake))):
        versions[FEATURES].add(before.version)
    for version, record in lake.table(FEATURES).records().items():
        if version in versions[FEATURES]:
            for name, key in MADE_WITH.items():
                if key in record:
                    versions[name].add(record[key])
    for name in VERSIONED:
        versions[name] &= {version for version in lake.table(name).records() if str(version) not in gone[name]}


def _add_unscored(lake: Lake, versions: dict[str, set[int]]) -> None:
    """Adds forecasts that labels are still awaited for, and what was forecast beside those that stay."""
    if not lake.table(FEATURES).exists():
        return
    versions[FORECASTS] |= unscored_issues(lake, current_features(lake))
    records, gone = lake.table(FORECASTS).records(), pruned(lake, SHADOW_FORECASTS)
    stay = {records[version].get("digest") for version in versions[FORECASTS]}
    beside = lake.table(SHADOW_FORECASTS).records().items()
    versions[SHADOW_FORECASTS] |= {v for v, r in beside if r.get("issue") in stay and str(v) not in gone}
