"""The services of `deploy/compose.yaml`, started with the same commands as processes of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as db
import yaml

from resources.settings import REPOSITORY_ROOT

DEPLOY = REPOSITORY_ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
OWN = ("MLFLOW", "DAGSTER", "FLEET", "SPARK", "JAVA_TOOL")


@dataclass
class Deployment:
    """Services by name, with the variables that an env file would give; each has a session and a log of its own."""

    folder: Path
    variables: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Starts a service as compose would."""
        service = yaml.safe_load(COMPOSE.read_text())["services"][name]
        command = [interpolated(part, self.variables) for part in service["command"]]
        said = {key: interpolated(value, self.variables) for key, value in service["environment"].items()}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OWN) or key in self.variables}
        own = {key: value for key, value in self.variables.items() if key in ("FLEET_LOOK_SECONDS", "SPARK_LOCAL_IP")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command,
                cwd=REPOSITORY_ROOT,
                env={**kept, **own, **said, "PATH": path, "PYTHONPATH": str(REPOSITORY_ROOT)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_proxy(self, secrets: Path, **addresses: str) -> None:
        """Starts nginx with the template of `deploy/proxy`, as compose's image would fill it in."""
        template = (DEPLOY / "proxy" / "fleet.conf.template").read_text()
        filled = VARIABLE.sub(lambda found: {**addresses, "FLEET_SECRETS": str(secrets)}[found[1]], template)
        folder = self.folder / "nginx"
        folder.mkdir()
        own = "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = f"daemon off;\npid {folder}/pid;\nerror_log stderr;\nuser root;\nevents {{}}\n"
        (folder / "nginx.conf").write_text(f"{main}http {{\naccess_log off;\n{own}{filled}}}\n")
        with (self.folder / "nginx.log").open("ab") as log:
            self.running["nginx"] = subprocess.Popen(
                ["nginx", "-e", "stderr", "-c", str(folder / "nginx.conf")],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        """Ends a service at once, with its children, as a machine does that goes down."""
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Ends all."""
        for name in list(self.running):
            self.kill(name)

    def wait_for(self, what: str, so: Callable[[], Any], seconds: float = 240.0) -> Any:
        """What `so` gives once it is true; all services must live until then."""
        end = time.monotonic() + seconds
        while not (found := so()):
            dead = [name for name, process in self.running.items() if process.poll() is not None]
            assert not dead, f"{dead} died:\n{self.log(dead[0])[-3000:]}"
            assert time.monotonic() < end, f"waited too long for {what}"
            time.sleep(0.25)
        return found

    def log(self, name: str) -> str:
        """What a service printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")


def interpolated(text: Any, variables: dict[str, str]) -> str:
    """A value of a compose file with its variables filled in. See the compose specification, "Interpolation"."""

    def filled(found: re.Match[str]) -> str:
        name, how, otherwise = found.groups()
        if variables.get(name):
            return variables[name]
        assert how == "-", f"{name} is needed: {otherwise}"
        return otherwise

    return VARIABLE.sub(filled, str(text))


def free_ports(count: int) -> list[int]:
    """Numbers of ports that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def answers(port: int | str) -> bool:
    """Whether somebody listens at a port of this machine."""
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", int(port))) == 0


def asked(url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Status and content of an answer; JSON where it is JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, content = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, content = error.code, error.read()
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content.decode(errors="replace")


def graphql(url: str, query: str, variables: dict[str, Any] | None = None, **headers: str) -> Any:
    """What Dagster's GraphQL answers."""
    status, said = asked(f"{url}/graphql", {"query": query, "variables": variables or {}}, **headers)
    assert status == 200, said
    return said


def salted(password: str) -> str:
    """A password as nginx reads it (RFC 2307)."""
    digest = hashlib.sha1(password.encode() + b"salt").digest()
    return "{SSHA}" + b64encode(digest + b"salt").decode()


def as_user(name: str, password: str) -> dict[str, str]:
    """The header of basic authentication."""
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


def execute(url: str, statement: str) -> None:
    """Runs a statement in a database, with no transaction of its own."""
    engine = db.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=db.NullPool)
    with engine.connect() as connection:
        connection.execute(db.text(statement))
