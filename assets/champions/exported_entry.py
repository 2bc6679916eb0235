"""What MLflow runs to load an exported fleet (models-from-code: this file lies in the model, nothing is pickled)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from assets.champions.serving.answer import answered
from assets.champions.serving.exported import FOLDER, ExportedFleet
from assets.champions.serving.pyfunc import told_as_http
from assets.champions.serving.watch import Watch, log_folder


class Exported(PythonModel):
    """A fleet whose models lie beside this file."""

    _skip_type_hint_validation = True  # of type hints MLflow would make a schema, and without them it warns

    def load_context(self, context: Any) -> None:
        """Reads who serves which segment; models are loaded when they are asked for."""
        with told_as_http():
            self.fleet = ExportedFleet(Path(__file__).parent / FOLDER)
            self.watch = Watch(log_folder(None), self.fleet.version, self.fleet.question.given)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """See `assets.champions.serving.answer.answered`."""
        with told_as_http():
            return self.watch.timed(model_input, lambda: answered(self.fleet, self.fleet.version, model_input))


set_model(Exported())
