"""Verdicts on committed versions, computed once: a version never changes, so neither does what was found in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from resources.lake import Lake


def remembered(lake: Lake, name: str, digest: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `find` gives (JSON), from the lake if it was found before for this digest."""
    file = f"verdicts/{name}-{digest}.json"
    known = lake.read_file(file)
    if known is not None:
        return json.loads(known)
    found = find()
    lake.write_file(file, json.dumps(found).encode())
    return found
