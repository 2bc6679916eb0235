"""What MLflow runs to load a registered fleet (models-from-code: nothing is pickled).

Each registered version keeps a copy of this file and runs it as it was then: what it imports has to stay where it is.
"""

from pathlib import Path

from mlflow.models import set_model

from assets.champions.registered_fleet import RegisteredFleet

set_model(RegisteredFleet(Path(__file__).parent))
