"""The folder of a target's Dagster instance, with a `dagster.yaml` like the repository's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resources.deployment import Dagster
from resources.environment import REFERENCE
from resources.settings import REPOSITORY_ROOT

NAME = "dagster.yaml"
HEADER = "# Written by `fleet` from the section `dagster` of fleet.yaml. Remove this line to keep your own changes.\n"
# entries whose state lies in the home rather than in the repository -> where in it
STATE = {"storage": "", "compute_logs": "logs", "local_artifact_storage": ""}


def home_of(dagster: Dagster) -> str:
    """The configured home, made if absent; a `dagster.yaml` that somebody wrote stays as it is."""
    assert dagster.home, "asked where one is configured"
    file = Path(dagster.home) / NAME
    if not file.exists() or file.read_text(encoding="utf-8").startswith(HEADER):
        text = _text(dagster, Path(dagster.home))
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    return dagster.home


def _text(dagster: Dagster, home: Path) -> str:
    import yaml

    document: dict[str, Any] = yaml.safe_load((REPOSITORY_ROOT / NAME).read_text(encoding="utf-8"))
    for entry, folder in STATE.items():
        own = document[entry].get("custom", document[entry])
        own["config"] = {**own.get("config", {}), "base_dir": str(home / folder)}
    if variable := REFERENCE.fullmatch(dagster.storage or ""):
        address = {"postgres_url": {"env": variable.group(1)}}
        own = {"module": "orchestration.postgres", "class": "BatchedPostgresStorage", "config": address}
        document["storage"] = {"custom": own}
    return HEADER + yaml.safe_dump(document, sort_keys=False)
