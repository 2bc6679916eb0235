"""Figures of a benchmark: printed, and kept if a file is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def show(figures: dict[str, Any], file: Path | None) -> None:
    """Prints the figures as JSON, and writes them to the file if there is one."""
    text = json.dumps(figures, indent=2)
    print(text)
    if file:
        file.write_text(text + "\n")
