"""MLflow: the record of runs and the registry of champions, through dagster-mlflow."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import ConfigurableResource, HookContext, InitResourceContext, failure_hook
from pydantic import PrivateAttr

from resources.environment import resolved, split_credentials

if TYPE_CHECKING:
    from dagster_mlflow.resources import MlFlow
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
EXPORTED = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
SQLITE = "sqlite:///"
PAGE = 200


class Mlflow(ConfigurableResource):
    """Tracking and registry of one fleet; nothing is imported or opened before it is used.

    `experiment` is also the name of the registered model. One Dagster run has at most one MLflow run. References in
    `tracking_uri` are resolved when the store is opened, and its password goes to MLflow by the environment, so that
    neither Dagster's pages nor an error's text have it.
    """

    tracking_uri: str
    experiment: str

    _context: InitResourceContext | None = PrivateAttr(default=None)
    _active: Any = PrivateAttr(default=None)

    @contextmanager
    def yield_for_execution(self, context: InitResourceContext) -> Iterator[Mlflow]:
        """Keeps the run's context, and ends the MLflow run with the Dagster run."""
        self._context = context
        try:
            yield self
        finally:
            self.end_run("FINISHED")

    def run(self) -> MlFlow:
        """dagster-mlflow's resource with this Dagster run's MLflow run active."""
        if self._active is None:
            from dagster_mlflow.resources import MlFlow

            self.client()
            assert self._context is not None, "an MLflow run needs a Dagster run"
            config = {
                "mlflow_tracking_uri": self.address(),
                "experiment_name": self.experiment,
                "env": {},
                "extra_tags": {},
            }
            with exported_uris_kept():
                self._active = MlFlow(self._context.replace_config(config))
        return self._active

    def end_run(self, status: str) -> None:
        """Ends the active MLflow run, if there is one, as FINISHED or FAILED."""
        if self._active is not None:
            self._active.end_run(status=status)
            self._active = None

    def client(self) -> MlflowClient:
        """A client of tracking and registry; makes the experiment, and the embedded store, if absent."""
        for name in ("mlflow", "alembic", "mlflow.store.db.utils", "alembic.runtime.migration"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow import MlflowClient, set_registry_uri, set_tracking_uri

        address = self.address()
        embedded = address.startswith(SQLITE)
        folder = Path(address.removeprefix(SQLITE)).parent
        if embedded:
            folder.mkdir(parents=True, exist_ok=True)
        with exported_uris_kept():
            set_tracking_uri(address)
            set_registry_uri(address)
        client = MlflowClient(address)
        if client.get_experiment_by_name(self.experiment) is None:
            artifacts = str(folder / "artifacts") if embedded else None
            client.create_experiment(self.experiment, artifact_location=artifacts)
        return client

    def address(self) -> str:
        """The tracking URI that MLflow opens, a server's without user and password: these are exported for MLflow.

        Raises:
            InputError: it refers to a variable that the environment lacks.
        """
        address = resolved(self.tracking_uri, "fleet.yaml mlflow.tracking_uri")
        if not address.startswith("http"):
            return address
        plain, *credentials = split_credentials(address)
        os.environ.update({name: value for name, value in zip(CREDENTIALS, credentials, strict=True) if value})
        return plain

    def is_empty(self) -> bool:
        """Whether the embedded store was never written, so that asking it can be spared."""
        address = self.address()
        return address.startswith(SQLITE) and not Path(address.removeprefix(SQLITE)).exists()

    def aliased(self, alias: str) -> Mapping[str, str] | None:
        """Tags of the version with an alias, with `version` and `run_id`; None if there is none."""
        if self.is_empty():
            return None
        from mlflow.exceptions import MlflowException

        try:
            version = self.client().get_model_version_by_alias(self.experiment, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return _tags_of(version)

    def versions(self) -> list[dict[str, str]]:
        """Tags of every registered version, with `version` and `run_id`, newest first."""
        if self.is_empty():
            return []
        found, page = [], None
        client = self.client()
        while page is None or page.token:
            page = client.search_model_versions(
                f"name='{self.experiment}'", max_results=PAGE, page_token=page.token if page else None
            )
            found += [_tags_of(each) for each in page]
        return sorted(found, key=lambda tags: int(tags["version"]), reverse=True)

    def version(self, number: str) -> dict[str, str] | None:
        """Tags of one registered version, with `version` and `run_id`; None if there is none."""
        if self.is_empty():
            return None
        from mlflow.exceptions import MlflowException

        try:
            found = self.client().get_model_version(self.experiment, number)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return _tags_of(found)

    def model_tags(self) -> dict[str, str]:
        """Tags of the registered model itself; none where there is no model."""
        from mlflow.exceptions import MlflowException

        if self.is_empty():
            return {}
        try:
            return dict(self.client().get_registered_model(self.experiment).tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}

    def run_tagged(self, tag: str, value: str) -> str | None:
        """Id of the first run whose tag has this value, None if there is none."""
        client = self.client()
        experiment = client.get_experiment_by_name(self.experiment).experiment_id
        first = ["attributes.start_time ASC"]
        found = client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=1, order_by=first)
        return found[0].info.run_id if found else None

    def run_id(self) -> str:
        """Id of this Dagster run's MLflow run."""
        return self.run().mlflow_run_id or self.run().active_run().info.run_id

    def run_url(self) -> str:
        """Where the active run is to be seen: a page of the tracking server, or the store and the run's id."""
        run_id = self.run_id()
        address = self.address()
        if address.startswith("http"):
            experiment = self.run().experiment.experiment_id
            return f"{address}/#/experiments/{experiment}/runs/{run_id}"
        return f"{self.tracking_uri} run {run_id}"


def _tags_of(version: ModelVersion) -> dict[str, str]:
    return {**version.tags, "version": str(version.version), "run_id": version.run_id or ""}


@contextmanager
def exported_uris_kept() -> Iterator[None]:
    """MLflow exports the stores it is told to use; what the user exported is the settings' to read, for any fleet."""
    exported = {name: os.environ.get(name) for name in EXPORTED}
    try:
        yield
    finally:
        for name, value in exported.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@failure_hook(required_resource_keys={"mlflow"})
def mlflow_run_failed(context: HookContext) -> None:
    """Marks the MLflow run as failed when a step of the Dagster run fails."""
    context.resources.mlflow.end_run("FAILED")
