"""A registered fleet as MLflow loads and asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.pyfunc import PythonModel

from assets.champions.served_fleet import ServedFleet
from assets.champions.served_listing import FLEET, Published
from assets.champions.served_model import refuse_never_served
from assets.champions.serving.answer import answered
from assets.champions.serving.pyfunc import registered_as, told_as_http
from assets.champions.serving.watch import Watch, log_folder


class RegisteredFleet(PythonModel):
    """The fleet of one registered version, whose models lie in the lake."""

    _skip_type_hint_validation = True  # of type hints MLflow would make a schema, and without them it warns

    def __init__(self, folder: Path) -> None:
        """`folder` is the version's own, as MLflow fetched it."""
        self._folder = folder
        self.version: int | None = None
        self.fleet: ServedFleet | None = None
        self.watch = Watch(None, None)

    def load_context(self, context: Any) -> None:
        """Reads who serves which segment; models are loaded when they are asked for."""
        with told_as_http():
            if registered := registered_as(self._folder):
                refuse_never_served(*registered)
                self.version = registered[1]
            self.fleet = ServedFleet(Published.from_json((self._folder / FLEET).read_text(encoding="utf-8")))
            self.watch = Watch(log_folder(self.fleet.lake), self.version, self.fleet.view().question.given)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """See `assets.champions.serving.answer.answered`."""
        fleet = self.fleet
        assert fleet is not None, "MLflow loads the context first"
        with told_as_http():
            return self.watch.timed(model_input, lambda: answered(fleet.view(), self.version, model_input))
