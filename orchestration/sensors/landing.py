"""What sets a fleet going beside its schedule: files that arrive in the source's folder."""

from __future__ import annotations

import hashlib
from itertools import takewhile
from typing import TYPE_CHECKING

from dagster import (
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from assets.raw.source import SourceFiles, find_files
from orchestration.jobs import INGEST
from orchestration.sensors.intervals import SECONDS_BETWEEN_LOOKS
from resources.problems import InputError
from resources.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

LISTING_TAG = "fleet/listing"
ATTEMPTS = 3


def landing_sensor(settings: Settings, job: UnresolvedAssetJobDefinition) -> SensorDefinition:
    """Asks for one run of `job` for each state of the source's folder that stood still from one look to the next.

    A run that died is asked for again, three times at most. It is `raw` that sees to it that a file is read once.
    """
    status = DefaultSensorStatus.RUNNING if settings.source.watch else DefaultSensorStatus.STOPPED

    @sensor(name="landing", job=job, minimum_interval_seconds=SECONDS_BETWEEN_LOOKS, default_status=status)
    def landing(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        """Ingests files that arrived in the source's folder."""
        if settings.source.format == "sql":
            return SkipReason("the source is a query: it is asked when a run starts, by the schedule or by hand")
        try:
            listing = listing_digest(find_files(settings))
        except InputError as error:
            return SkipReason(str(error))
        if context.cursor != listing:
            context.update_cursor(listing)
            return SkipReason("the files changed: they are looked at once more, lest one is still being written")
        ours = RunsFilter(job_name=INGEST, tags={"fleet": settings.name})
        recent = context.instance.get_runs(ours, limit=ATTEMPTS + 1)  # newest first
        runs = list(takewhile(lambda run: run.tags.get(LISTING_TAG) == listing, recent))
        if any(run.status == DagsterRunStatus.SUCCESS or not run.is_finished for run in runs):
            return SkipReason("nothing arrived since the last run")
        if len(runs) >= ATTEMPTS:
            return SkipReason(f"{ATTEMPTS} runs failed over these files: see their logs; new files set off another")
        since = recent[len(runs)].run_id if len(recent) > len(runs) else "start"
        tags = {"fleet": settings.name, LISTING_TAG: listing}
        return RunRequest(run_key=f"{listing}-{since}-{len(runs)}", tags=tags)

    return landing


def listing_digest(files: SourceFiles) -> str:
    """Digest of which files there are, how large, and when they last changed."""
    listed = "\n".join(f"{path}\0{stamp}" for path, stamp in zip(files.paths, files.stamps, strict=True))
    return hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()[:16]
