"""A folder for a new fleet, made from a template: what ends in `.jinja` is rendered, the rest is copied."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from resources.problems import InputError, Problem
from resources.settings import name_from

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE = Path(__file__).with_name("template")
RENDERED = ".jinja"


def start_folder(folder: Path, template: Path = TEMPLATE) -> list[Path]:
    """Fills a new or empty folder from a template, whose files and their paths may hold `{{ name }}`.

    The name is the folder's, as a fleet can have it. Gives the files written, relative to the folder.

    Raises:
        InputError: the folder is not empty, the template is none, or files of it cannot be rendered: nothing is
            written then.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError([Problem(str(folder), "is there already and not empty", "name a new folder, or an empty one")])
    sources = _files(template)
    if not sources:
        what, remedy = "is no folder with files in it", "name the folder that holds the template"
        raise InputError([Problem(str(template), what, remedy)])
    contents = _contents(sources, template, name_from(folder.resolve().name))
    for path, (content, source) in contents.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        shutil.copymode(source, target)
    return list(contents)


def _files(template: Path) -> list[Path]:
    found = sorted(path for path in template.rglob("*") if path.is_file())
    return [path for path in found if not {".git", "__pycache__"} & set(path.relative_to(template).parts)]


def _contents(sources: list[Path], template: Path, name: str) -> dict[Path, tuple[bytes, Path]]:
    """What each new file holds and which file of the template it comes from."""
    from jinja2 import Environment, StrictUndefined, TemplateError

    jinja = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # nosec B701
    made: dict[Path, tuple[bytes, Path]] = {}
    problems = []
    for source in sources:
        relative = source.relative_to(template)
        try:
            path = Path(_rendered(jinja, str(relative).removesuffix(RENDERED), name))
            content = source.read_bytes()
            if source.name.endswith(RENDERED):
                content = _rendered(jinja, content.decode(), name).encode()
        except (TemplateError, UnicodeDecodeError) as error:
            what, remedy = f"cannot be rendered ({error})", "mend it; only `name` is known to a template"
            problems.append(Problem(str(source), what, remedy))
            continue
        if path.is_absolute() or ".." in path.parts or path in made:
            problems.append(Problem(str(source), f"would become {path}", "give each file a place of its own"))
        made[path] = (content, source)
    if problems:
        raise InputError(problems)
    return made


def _rendered(jinja: Environment, text: str, name: str) -> str:
    return jinja.from_string(text).render(name=name)
