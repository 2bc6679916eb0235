"""The jobs of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster import AssetCheckKey, AssetKey, AssetSelection, HookDefinition, define_asset_job, in_process_executor

from assets.champions.serving.watch import SERVING
from assets.champions.word import Action
from assets.drift.verdict import DRIFT
from assets.evaluation.backtest_asset import BACKTEST
from assets.evaluation.incumbent import CHAMPIONS
from assets.evaluation.judge import EVALUATION
from assets.evaluation.live_errors import LIVE_ERRORS
from assets.explanations.publish import EXPLANATIONS
from assets.features.publish import FEATURES, QUARANTINE
from assets.forecasts.publish import FORECASTS
from assets.models.asset import SEGMENT_MODELS
from assets.models.tuning.asset import TUNING
from assets.raw.snapshot import RAW
from resources.computing import CPU
from resources.mlflow import mlflow_run_failed
from resources.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

WEEKLY_CYCLE, INGEST, REQUARANTINE = "weekly_cycle", "ingest", "requarantine"
APPROVE, ROLLBACK, CHECK = "approve_promotion", "rollback", "check"
RETRAIN_DRIFTED, WATCH_SERVING = "retrain_drifted", "watch_serving"
# runs that train a fleet wait for one another: see dagster.yaml
TRAINS = "fleet/trains"
ON_GPU = "fleet/gpu"
# so often a run whose process died is asked for again (run_retries in dagster.yaml); sensors do that for theirs
RETRIES = "dagster/max_retries"
# a run that takes longer hangs, and is ended (run_monitoring in dagster.yaml): who trains gets a day, others six hours
LONGEST, SECONDS_TO_TRAIN, SECONDS_OF_OTHERS = "dagster/max_runtime", "86400", "21600"


def weekly_cycle_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """The whole cycle in one run: raw, features, models, evaluation, champions, forecasts, and every check."""
    return define_asset_job(
        WEEKLY_CYCLE,
        selection=AssetSelection.groups(settings.name),
        description=(
            "Retrains what changed, judges it, promotes it if it is not worse, forecasts. In the UI: the arrow beside "
            "'Materialize all', 'Open launchpad', 'Materialize', without a partition."
        ),
        tags={"fleet": settings.name, RETRIES: "1", **_training_tags(settings)},
        # one process, so that one Spark session serves all steps
        executor_def=in_process_executor,
        hooks={mlflow_run_failed},
    )


def _training_tags(settings: Settings) -> dict[str, str]:
    """What a run that trains is known by: of which fleet, and on which kind of GPU, if on any."""
    device = settings.gpu.device
    return {TRAINS: settings.name, LONGEST: SECONDS_TO_TRAIN, **({} if device == CPU else {ON_GPU: device})}


def ingest_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """What arrived, as a snapshot, its features and quarantine, and whether it drifted; nothing is trained."""
    description = "Reads what is new in the source, builds features and quarantine of it, and looks at drift."
    of_time = [LIVE_ERRORS, DRIFT] if settings.time else []
    return _of_assets(settings, INGEST, [RAW, FEATURES, QUARANTINE, *of_time], description)


def retrain_drifted_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """From the models on, for the segments that the drift sensor names: judged, promoted or not, and forecast."""
    description = (
        "Trains a set of segments (`selection`, or `segments`; all if neither is said) on the features that there are, "
        "judges them, promotes them if they are not worse, and forecasts. The sensor `drift` asks for it."
    )
    of_time = [LIVE_ERRORS, FORECASTS] if settings.time else []
    assets = [SEGMENT_MODELS, EVALUATION, CHAMPIONS, EXPLANATIONS, *of_time]
    tags = _training_tags(settings)
    return _of_assets(settings, RETRAIN_DRIFTED, assets, description, hooks={mlflow_run_failed}, tags=tags)


def requarantine_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """Today's rules over every row of the last snapshot: features and quarantine anew."""
    description = "Judges every row of the last snapshot by the contract as it is now; the source is not looked at."
    return _of_assets(settings, REQUARANTINE, [FEATURES, QUARANTINE], description)


def backtest_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """Errors at past origins; nothing is kept but the record."""
    description = "What would have been served at past origins, and how wrong it was. In the launchpad: `origins`."
    return _of_assets(settings, BACKTEST, [BACKTEST], description)


def tuning_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """Parameters searched for the fleet; the next training uses what was found."""
    description = "Searches parameters on a sample of segments, before the holdout. The next training uses them."
    return _of_assets(settings, TUNING, [TUNING], description, tags=_training_tags(settings))


def watch_serving_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """What the REST service answered since the last look, with its checks."""
    description = (
        "Folds what the servers logged into the table `serving`, and judges it. The sensor `serving` asks for it."
    )
    return _of_assets(settings, WATCH_SERVING, [SERVING], description)


def check_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """Every check, on what the assets hold now; nothing is made."""
    return define_asset_job(
        CHECK,
        selection=AssetSelection.all_asset_checks(),
        description="Runs every asset check on the data as they are.",
        tags={"fleet": settings.name, LONGEST: SECONDS_OF_OTHERS},
        executor_def=in_process_executor,
    )


def approve_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """A person's word on the version that waits, and the forecasts of what then serves."""
    description = (
        "Approves or rejects the version that waits (`promotion: {mode: manual}`); forecasts follow. "
        "In the launchpad: say `by`, `note`, and `action: reject` to refuse it."
    )
    return _of_champions(settings, APPROVE, Action.APPROVE, description)


def rollback_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """An earlier version serves again, whole or for some segments, and forecasts follow."""
    description = (
        "Lets an earlier version serve again, by default the one before; forecasts follow. "
        "In the launchpad: `version`, `segments` (all by default), `pin_until`, `by`, `note`."
    )
    return _of_champions(settings, ROLLBACK, Action.ROLLBACK, description)


def _of_champions(settings: Settings, name: str, action: Action, description: str) -> UnresolvedAssetJobDefinition:
    given = {"action": action.name, "by": "", "note": ""}
    config = {"ops": {f"{settings.name}__{CHAMPIONS}": {"config": given}}}
    assets = [CHAMPIONS, FORECASTS] if settings.time else [CHAMPIONS]
    # what the gate says of the last evaluation is not about a person's word
    gate = AssetSelection.checks(AssetCheckKey(AssetKey([settings.name, CHAMPIONS]), "gate"))
    return _of_assets(settings, name, assets, description, config, but=gate)


def _of_assets(
    settings: Settings,
    name: str,
    assets: list[str],
    description: str,
    config: dict[str, Any] | None = None,
    but: AssetSelection | None = None,
    hooks: set[HookDefinition] | None = None,
    tags: dict[str, str] | None = None,
) -> UnresolvedAssetJobDefinition:
    selection: AssetSelection = AssetSelection.assets(*[AssetKey([settings.name, asset]) for asset in assets])
    return define_asset_job(
        name,
        selection=selection if but is None else selection - but,
        description=description,
        tags={"fleet": settings.name, LONGEST: SECONDS_OF_OTHERS, **(tags or {})},
        executor_def=in_process_executor,
        config=config,
        hooks=hooks,
    )
