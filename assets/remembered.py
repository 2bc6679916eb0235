"""Verdicts on committed versions, computed once: a version never changes, so neither does what was found in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from resources.lake import Lake


def known_before(lake: Lake, name: str, digest: str) -> dict[str, Any] | None:
    """What was found before for this digest, None if nothing was."""
    known = lake.read_file(_file(name, digest))
    return None if known is None else json.loads(known)


def remembered(lake: Lake, name: str, digest: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `find` gives (JSON), from the lake if it was found before for this digest."""
    known = known_before(lake, name, digest)
    if known is not None:
        return known
    found = find()
    lake.write_file(_file(name, digest), json.dumps(found).encode())
    return found


def _file(name: str, digest: str) -> str:
    return f"verdicts/{name}-{digest}.json"
