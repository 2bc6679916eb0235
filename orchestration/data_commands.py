"""Commands that come before the first run: a new folder, a draft of its `fleet.yaml`, the schema for the editor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestration.new_folder import TEMPLATE, start_folder
from orchestration.terminal import err, mistakes_shown
from resources.location import absolute
from resources.problems import InputError, Problem
from resources.settings_schema import schema_text


def init(
    folder: Annotated[Path, typer.Argument(help="The folder to start: new, or empty.")],
    template: Annotated[
        Path,
        typer.Option(
            help="Your own folder to start from; *.jinja files are rendered with {{ name }}.",
            show_default="Fleet's own",
        ),
    ] = TEMPLATE,
) -> None:
    """Starts a folder: fleet.yaml with comments, README.md, .gitignore, and a workflow that validates each change."""
    with mistakes_shown():
        written = start_folder(folder, template)
    for path in written:
        err.print(f"wrote {folder / path}", markup=False, highlight=False, soft_wrap=True)


def contract(
    table: Annotated[str, typer.Option("--from", help="File, folder, glob: Parquet, CSV, JSON lines, Delta.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The file to write; left out, the draft is printed.")
    ] = None,
) -> None:
    """Drafts a fleet.yaml from a table: its likely roles, and a contract of what its columns hold, ready to edit."""
    with mistakes_shown():
        if out_file and out_file.exists():
            raise InputError([Problem(str(out_file), "is there already", "name a new file, or remove this one")])
        from assets.raw.draft import as_yaml, draft_of
        from resources.spark import Spark

        path = absolute(table, Path.cwd())
        draft = draft_of(Spark(table=path).session(), path)
        text = as_yaml(draft, out_file.parent if out_file else Path.cwd())
    if out_file is None:
        print(text, end="")
        return
    out_file.parent.mkdir(parents=True, exist_ok=True)
    out_file.write_text(text, encoding="utf-8")
    err.print(f"wrote {out_file}: edit it, then fleet validate --config {out_file}", markup=False, soft_wrap=True)


def schema() -> None:
    """Prints the JSON schema of fleet.yaml, for editors and other tools."""
    print(schema_text(), end="")
