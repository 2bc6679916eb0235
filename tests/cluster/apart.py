"""What workers have that share nothing with the driver: an account of their own, and a Python that was packed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark

LEFT_OUT = shutil.ignore_patterns("test", "site-packages", "__pycache__", "config-*", "*.a")


def stranger() -> int | None:
    """The account `nobody`, where it can read Spark and this process may start others as it; else None."""
    if os.getuid():
        return None
    account = pwd.getpwnam("nobody").pw_uid
    looked = subprocess.run(["test", "-r", pyspark.__file__], user=account, group=account, extra_groups=[], check=False)
    return None if looked.returncode else account


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other accounts may look into; those of pytest are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="fleet_apart_"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def packed_python(folder: Path) -> Path:
    """This interpreter with its standard library, packed, which finds the other packages where they are installed."""
    made, version = folder / "packed", f"python{sys.version_info.major}.{sys.version_info.minor}"
    libraries = Path(sysconfig.get_config_var("LIBDIR"))
    shutil.copytree(sysconfig.get_path("stdlib"), made / "lib" / version, ignore=LEFT_OUT)
    for library in libraries.glob(f"lib{version}*.so*"):
        shutil.copy2(library, made / "lib" / library.name)
    (made / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), made / "bin" / version)
    start = made / "bin" / "python"
    start.write_text(
        '#!/bin/sh\nhome=$(cd "$(dirname "$0")/.." && pwd)\n'
        f'export LD_LIBRARY_PATH="$home/lib" PYTHONHOME="$home" PYTHONPATH="{sysconfig.get_path("purelib")}:$PYTHONPATH"\n'
        f'exec "$home/bin/{version}" "$@"\n'
    )
    start.chmod(0o755)
    with tarfile.open(folder / "environment.tar.gz", "w:gz", compresslevel=1) as archive:
        for part in made.iterdir():
            archive.add(part, part.name)
    return folder / "environment.tar.gz"
