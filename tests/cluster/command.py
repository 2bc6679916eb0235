"""The command `fleet` as a user has it: a process of its own, in a folder that is not the repository's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from resources.settings import REPOSITORY_ROOT

COMMAND = f"import sys; sys.path.insert(0, {str(REPOSITORY_ROOT)!r}); from orchestration.cli import main; main()"


def fleet(folder: Path, *arguments: str) -> str:
    """What the command says that ends well; `folder` has the `fleet.yaml`, and gets Dagster's state."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, "DAGSTER_HOME": str(folder / "dagster")},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if "ot executing" not in line]
    assert done.returncode == 0, "\n".join([done.stdout[-3000:], *errors[:60], *errors[-20:]])
    return done.stdout + done.stderr
