"""What MLflow runs to load a registered fleet (models-from-code: this file lies in the model, nothing is pickled)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from assets.champions.served_fleet import ServedFleet
from assets.champions.served_listing import FLEET, Published
from assets.champions.served_model import refuse_never_served
from assets.champions.serving.answer import answered
from assets.champions.serving.pyfunc import registered_as, told_as_http


class RegisteredFleet(PythonModel):
    """The fleet of one registered version, whose models lie in the lake."""

    _skip_type_hint_validation = True  # of type hints MLflow would make a schema, and without them it warns

    def load_context(self, context: Any) -> None:
        """Reads who serves which segment; models are loaded when they are asked for."""
        folder = Path(__file__).parent
        registered = registered_as(folder)
        self.version = registered[1] if registered else None
        with told_as_http():
            if registered:
                refuse_never_served(*registered)
            self.fleet = ServedFleet(Published.from_json((folder / FLEET).read_text(encoding="utf-8")))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """See `assets.champions.serving.answer.answered`."""
        with told_as_http():
            return answered(self.fleet.view(), self.version, model_input)


set_model(RegisteredFleet())
