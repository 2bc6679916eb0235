"""What MLflow's scoring server is told of a refusal: 4xx for mistakes in the rows, 5xx for models that are lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assets.champions.serving.refusal import LostModelsError, NotServableError
from resources.problems import InputError

# written by MLflow beside the model when it is loaded as `models:/name@alias`
REGISTERED = "registered_model_meta"


@contextmanager
def told_as_http() -> Iterator[None]:
    """Raises what goes wrong in the `with` block as MLflow's own exception, whose code becomes the HTTP status."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import DATA_LOSS, INTERNAL_ERROR, INVALID_PARAMETER_VALUE, INVALID_STATE

    try:
        yield
    except InputError as error:
        raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
    except LostModelsError as error:
        raise MlflowException(str(error), DATA_LOSS) from None
    except NotServableError as error:
        raise MlflowException(str(error), INVALID_STATE) from None
    except Exception as error:
        # of what it does not know MLflow would say that the request is bad
        raise MlflowException(f"{type(error).__name__}: {error}", INTERNAL_ERROR) from error


def registered_as(model: Path) -> tuple[str, int] | None:
    """Name and version that a model folder was loaded as; None where it was loaded as a plain folder."""
    import yaml

    file = model / REGISTERED
    if not file.is_file():
        return None
    said = yaml.safe_load(file.read_text(encoding="utf-8"))
    return str(said["model_name"]), int(said["model_version"])
