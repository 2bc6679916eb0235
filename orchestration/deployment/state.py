"""What is deployed: settings, code versions and the lake's format; and the record of it in the lake."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from orchestration.deployment.migrations import LAKE_FORMAT
from resources.lake import Lake
from resources.settings import REPOSITORY_ROOT, config_path, settings_as_written

DEPLOYMENTS = "deployments.json"
KEPT = 100


@dataclass(frozen=True)
class State:
    """`settings` by dotted key, references as they are written; `code` versions by asset; the lake's `format`.

    `commit` is git's of the code, with `+` where files differ from it; None outside a repository.
    """

    settings: dict[str, Any]
    code: dict[str, str]
    format: int
    commit: str | None = None
    target: str | None = None
    at: str = ""
    by: str = ""


def state_of(target: str | None = None, by: str = "") -> State:
    """What would be deployed now of the fleet that FLEET_CONFIG names, whose definitions are loaded."""
    from orchestration.definitions import defs

    settings = settings_as_written(config_path(), target)
    graph = defs.resolve_asset_graph()
    code = {key.path[-1]: graph.get(key).code_version or "" for key in graph.materializable_asset_keys}
    written = by_dotted_key(settings.model_dump(mode="json"))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return State(written, dict(sorted(code.items())), LAKE_FORMAT, _commit(), target, at, by)


def by_dotted_key(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of a document by dotted key; lists are values."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        own = (
            by_dotted_key(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
        )
        found |= own
    return found


def deployments(lake: Lake) -> list[State]:
    """What was deployed to a lake, oldest first."""
    content = lake.read_file(DEPLOYMENTS)
    return [] if content is None else [State(**each) for each in json.loads(content)]


def record_deployment(lake: Lake, state: State) -> None:
    """Adds a deployment to the lake's record, of which the newest are kept."""
    known = [*deployments(lake), state][-KEPT:]
    text = json.dumps([asdict(each) for each in known], ensure_ascii=False, indent=1)
    lake.write_file(DEPLOYMENTS, text.encode())


def state_from(text: str | bytes) -> State:
    """A state as `state_text` writes it."""
    return State(**json.loads(text))


def state_text(state: State) -> str:
    """A state as a JSON object."""
    return json.dumps(asdict(state), ensure_ascii=False, indent=1) + "\n"


def _commit() -> str | None:
    built = REPOSITORY_ROOT / "COMMIT"  # of an artifact, which is no repository
    if built.exists():
        return built.read_text(encoding="utf-8").strip()[:12]
    found = _git("rev-parse", "--short=12", "HEAD")
    if not found:
        return None
    return f"{found}+" if _git("status", "--porcelain", "--untracked-files=no") else found


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY_ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:  # no git, as in a container
        return ""
