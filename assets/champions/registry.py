"""Registered versions of a fleet: made, made to serve by moving the alias last, settled in what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from assets.champions.served_model import log_served_model
from assets.evaluation.incumbent import (
    APPROVED,
    CHAMPIONS,
    LISTING_DIGEST,
    PUBLISHED,
    REPLACES,
    STATUS,
    SUPERSEDED,
    WITHDRAWN,
    listing_digest,
    published_rows,
)
from assets.models.quantiles import levels_in
from assets.models.store import as_listing
from resources.files import write_parquet
from resources.lake import Lake
from resources.mlflow import CHALLENGER, CHAMPION, PREVIOUS, Mlflow

# the version that a waiting one was compared with: it may only replace that one
COMPARED_WITH = "compared_with"
SERVED = "served_since"
LONGEST_TAG = 4_900  # MLflow keeps 5,000 characters


@dataclass(frozen=True)
class Word:
    """Who decided something on a version, and why; the time is added when it is written."""

    by: str
    note: str = ""

    def tags(self, what: str) -> dict[str, str]:
        """As tags of a version: `<what>_by`, `<what>_at` (UTC), `<what>_note`."""
        return {f"{what}_by": self.by, f"{what}_at": now().isoformat(), f"{what}_note": self.note[:LONGEST_TAG]}


@dataclass(frozen=True)
class Fleet:
    """What is to be registered: a row a segment, tags, a description, and the record of what it was decided by."""

    listing: pa.Table
    tags: Mapping[str, str]
    description: str
    record: Mapping[str, Any]


def now() -> datetime:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def register(lake: Lake, mlflow: Mlflow, fleet: Fleet) -> str:
    """Commits a fleet's rows and registers it as a version, which it gives; nobody is served by it yet.

    A fleet of the same rows and evaluation that was registered before is that version: a run that died goes on here.
    """
    digest = listing_digest(fleet.listing)
    same = {PUBLISHED: digest, "evaluation": fleet.tags.get("evaluation", "")}
    known = [tags for tags in mlflow.versions() if same.items() <= tags.items()]
    _commit_rows(lake, fleet.listing, digest, fleet.record)
    if known:
        _tag(mlflow, known[0]["version"], fleet.tags)
        return known[0]["version"]
    tags = {**fleet.tags, **same, LISTING_DIGEST: digest, "dagster_run_id": mlflow.run().dagster_run_id}
    return _create_version(lake, mlflow, fleet, tags)


def make_champion(mlflow: Mlflow, version: str, word: Word, what: str = "approved") -> None:
    """Lets a version serve: the alias `champion` moves in one step, after all that must be known of it is written.

    `what` was done with it, for the tags: it was `approved`, or `restored` by a rollback.

    Whatever dies on the way leaves the old champion or the new one. What comes after that step (the alias `previous`,
    and `challenger`, which goes) is mended by `settle` at the next run.
    """
    before = mlflow.aliased(CHAMPION)
    tags = {STATUS: APPROVED, **word.tags(what)}
    if before is not None and before["version"] != version and REPLACES not in (mlflow.version(version) or {}):
        tags[REPLACES] = before["version"]
    _tag(mlflow, version, tags)
    client = mlflow.client()
    client.set_registered_model_tag(mlflow.experiment, CHAMPION, version)
    if before is not None and before["version"] != version:
        client.set_registered_model_tag(mlflow.experiment, PREVIOUS, before["version"])
    client.set_registered_model_alias(mlflow.experiment, CHAMPION, version)
    settle(mlflow)


def make_challenger(mlflow: Mlflow, version: str, status: str, tags: Mapping[str, str]) -> None:
    """Lets a version wait (`pending` or `shadow`), in place of one that waited before; nobody is served by it."""
    before, champion = mlflow.aliased(CHALLENGER), mlflow.aliased(CHAMPION)
    _tag(mlflow, version, {STATUS: status, COMPARED_WITH: champion["version"] if champion else "", **tags})
    mlflow.client().set_registered_model_alias(mlflow.experiment, CHALLENGER, version)
    if before is not None and before["version"] != version:
        _tag(mlflow, before["version"], {STATUS: SUPERSEDED, "superseded_by": version})


def end_challenge(mlflow: Mlflow, version: str, status: str, word: Word) -> None:
    """Rejects a waiting version, or lets it expire: it is told so, and the alias `challenger` goes."""
    _tag(mlflow, version, {STATUS: status, **word.tags(status)})
    _drop_challenger(mlflow, version)


def withdraw(mlflow: Mlflow, version: str, word: Word) -> None:
    """Notes that a version is rolled back from: its evaluation promotes nothing again."""
    _tag(mlflow, version, {STATUS: WITHDRAWN, **word.tags("withdrawn")})


def settle(mlflow: Mlflow) -> None:
    """Brings what follows from the alias `champion` into line with it: `previous` names what served before it, and
    `challenger` no version that serves."""
    champion, said = mlflow.aliased(CHAMPION), mlflow.model_tags()
    if champion is None:
        return
    before, client = said.get(PREVIOUS), mlflow.client()
    previous = mlflow.aliased(PREVIOUS)
    moved = said.get(CHAMPION) == champion["version"] and before not in (None, champion["version"])
    if moved and before is not None and (previous or {}).get("version") != before:
        client.set_registered_model_alias(mlflow.experiment, PREVIOUS, before)
    if SERVED not in champion:
        _tag(mlflow, champion["version"], {SERVED: now().isoformat()})
    # last: while it waits, whoever approved it may be asked again
    _drop_challenger(mlflow, champion["version"])


def moved_from(mlflow: Mlflow) -> Mapping[str, str] | None:
    """Tags of the version that was made champion last, if the alias `champion` was moved away from it by hand."""
    champion, said = mlflow.aliased(CHAMPION), mlflow.model_tags().get(CHAMPION)
    if said is None or (champion is not None and champion["version"] == said):
        return None
    tags = mlflow.version(said)
    # one that never served was about to: the run that wanted it died before the alias moved
    return tags if tags is not None and SERVED in tags else None


def _commit_rows(lake: Lake, listing: pa.Table, published: str, record: Mapping[str, Any]) -> None:
    table = lake.table(CHAMPIONS)
    there = published_rows(lake, published) if table.exists() else None
    if there is not None and len(there):
        return
    # rows whose file was lost are written again in its place
    replacing = [published] if table.exists() and there is None else None
    with table.staging() as staging:
        write_parquet(listing, f"{staging.uri}/{PUBLISHED}={published}/champions.parquet")
        schema = listing.schema.append(pa.field(PUBLISHED, pa.string()))
        table.commit(
            staging,
            schema,
            {**record, PUBLISHED: published},
            mode="append",
            partition_by=[PUBLISHED],
            replacing=replacing,
        )


def _create_version(lake: Lake, mlflow: Mlflow, fleet: Fleet, tags: Mapping[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    client = mlflow.client()
    levels = levels_in(as_listing(fleet.listing))
    source = log_served_model(mlflow, lake, tags, {"tags": dict(tags), "record": dict(fleet.record)}, levels)
    try:
        client.create_registered_model(mlflow.experiment, description="Champion fleets, one version a promotion")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        mlflow.experiment, source, mlflow.run_id(), tags=dict(tags), description=fleet.description
    )
    return str(created.version)


def _drop_challenger(mlflow: Mlflow, version: str) -> None:
    waiting = mlflow.aliased(CHALLENGER)
    if waiting is not None and waiting["version"] == version:
        mlflow.client().delete_registered_model_alias(mlflow.experiment, CHALLENGER)


def _tag(mlflow: Mlflow, version: str, tags: Mapping[str, str]) -> None:
    client = mlflow.client()
    for name, value in tags.items():
        client.set_model_version_tag(mlflow.experiment, version, name, value)
