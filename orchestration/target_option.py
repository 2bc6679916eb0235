"""`--target` on every command that reads a fleet.yaml: FLEET_TARGET, for this command and what it starts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from resources.settings import TARGET_VARIABLE

Target = Annotated[
    str | None,
    typer.Option("--target", "-t", help="The target of fleet.yaml, such as dev or prod.", envvar=TARGET_VARIABLE),
]


def with_target(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes `--config`, with `--target` beside it; any other command as it is."""
    signature = inspect.signature(command, eval_str=True)
    if "config" not in signature.parameters:
        return command

    @wraps(command)
    def of_target(*, target: str | None = None, **given: Any) -> None:
        if target:
            os.environ[TARGET_VARIABLE] = target
        command(**given)

    own = inspect.Parameter("target", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Target)
    shown = signature.replace(parameters=[*signature.parameters.values(), own])
    of_target.__signature__ = shown  # type: ignore[attr-defined]
    of_target.__annotations__ = {name: each.annotation for name, each in shown.parameters.items()}
    return of_target
