"""A process that promotes and dies: every write to lake and registry is a step, and it dies just before one of them."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from mlflow import MlflowClient

from resources.table import Table

T = TypeVar("T")
MUTATIONS = (
    (Table, "commit"),
    (MlflowClient, "create_registered_model"),
    (MlflowClient, "create_model_version"),
    (MlflowClient, "set_model_version_tag"),
    (MlflowClient, "set_registered_model_tag"),
    (MlflowClient, "set_registered_model_alias"),
    (MlflowClient, "delete_registered_model_alias"),
)


class Killed(BaseException):
    """What no handler of an error catches, as little as it would a kill."""


def dying_at(patched: pytest.MonkeyPatch, step: int) -> Callable[[Callable[[], T]], T | None]:
    """Calls a function that dies before its write number `step`; gives what it gives, None if it died."""

    def die() -> None:
        raise Killed

    counting(patched.setattr, step, die)

    def run(work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Killed:
            return None

    return run


def counting(replace: Callable[[Any, str, Any], None], step: int, die: Callable[[], None]) -> None:
    """Lets every write count, and the one that is number `step` call `die` instead."""
    taken = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapped(*arguments: Any, **keys: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == step:
                die()
            return original(*arguments, **keys)

        return wrapped

    for owner, name in MUTATIONS:
        replace(owner, name, counted(getattr(owner, name)))


def main(fleet_yaml: str, step: int) -> None:
    """Promotes the last evaluation of a fleet; the process is gone at a step."""
    from assets.champions.gate import Decision
    from assets.champions.promotion import promote
    from assets.evaluation.judge import latest_evaluation
    from resources.lake import Lake
    from resources.mlflow import Mlflow
    from resources.settings import read_settings
    from tests.champions.test_publish import in_run

    settings = read_settings(fleet_yaml)
    lake = Lake(uri=settings.lake)
    judged = latest_evaluation(lake)
    assert judged is not None
    counting(setattr, step, lambda: os.kill(os.getpid(), signal.SIGKILL))
    mlflow = in_run(Mlflow(tracking_uri=settings.tracking_uri, experiment=settings.name), "killed")
    print(promote(lake, mlflow, settings.promotion, judged, Decision(True, ("as asked",))).what)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
