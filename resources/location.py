"""Where files lie: on this machine, or in a bucket."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from resources.problems import Problem

BUCKET = r"s3://[a-z0-9][a-z0-9.-]+(/[^?#]*)?"


def is_local(path: str) -> bool:
    """Whether a path is on this machine's file system rather than a URI such as s3://bucket."""
    return "://" not in path or path.startswith("file://")


def absolute(path: str, folder: Path) -> str:
    """`path` relative to `folder` (that of fleet.yaml); URIs stay as they are."""
    if path.startswith("sqlite:///") and not path.startswith("sqlite:////"):
        return f"sqlite:///{absolute(path.removeprefix('sqlite:///'), folder)}"
    if not is_local(path):
        return path
    plain = unquote(path.removeprefix("file://")) if path.startswith("file://") else path
    return str((folder / Path(plain).expanduser()).resolve())


def lake_problems(lake: str, file: str) -> list[Problem]:
    """Why nothing can be committed to a lake, an absolute path or URI; `file` names it."""
    where, problems = f"{file} lake", []
    if not is_local(lake) and not re.fullmatch(BUCKET, lake):
        what = f"{lake} is neither a folder nor a bucket such as s3://sales/fleet"
        remedy = "write a folder or s3://; what it takes to reach the bucket is exported (docs/cluster.md)"
        problems.append(Problem(where, what, remedy))
    if unquote(lake) != lake:
        what = f"{lake} holds a percent escape, which Delta Lake takes for another character"
        problems.append(Problem(where, what, "choose a folder without it"))
    return problems
