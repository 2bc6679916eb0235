#!/usr/bin/env bash
# Makes .venv hold what requirements.lock says, hash for hash, and this project. Called by make; returns at once
# when neither the lock nor pyproject.toml has changed since the last time.
#
#   deploy/setup.sh             set up, or say what the machine lacks and the command that installs it
#   deploy/setup.sh --missing   only name the Debian packages that the machine lacks
#
# PYTHON names the interpreter to use when python3 is not the one; JAVA_HOME the Java, as for Spark itself.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
venv=.venv
stamp=$venv/.set-up-from
own_uv=$venv/uv/bin/uv # out of the way of what uv itself installs and removes
packages=()
reasons=()

lacks() { # package, reason
    packages+=("$1")
    reasons+=("$2")
}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

java_command() {
    if [[ -n ${JAVA_HOME:-} ]]; then
        echo "$JAVA_HOME/bin/java"
    else
        command -v java || true
    fi
}

check_java() {
    local java version
    java=$(java_command)
    if [[ -z $java ]]; then
        lacks openjdk-17-jre-headless "Spark needs Java 17 or later, and there is no java on the PATH."
    elif [[ ! -x $java ]]; then
        lacks openjdk-17-jre-headless "JAVA_HOME is $JAVA_HOME, but there is no bin/java in it: correct or unset it."
    else
        version=$("$java" -version 2>&1 | sed -n 's/.* version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1)
        if ((${version:-0} < 17)); then
            lacks openjdk-17-jre-headless "Spark needs Java 17 or later, and $java is Java ${version:-unknown}."
        elif ! "$java" --add-modules jdk.incubator.vector -version >/dev/null 2>&1; then
            lacks openjdk-17-jre-headless "Spark needs the module jdk.incubator.vector, which $java lacks."
        fi
    fi
}

supported_python() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

check_python() {
    if ! command -v "$python" >/dev/null; then
        lacks python3-venv "Python 3.11, 3.12 or 3.13 is needed, and there is no $python on the PATH."
    elif ! supported_python "$python"; then
        fail "Python 3.11, 3.12 or 3.13 is needed, and $python is $("$python" --version 2>&1)." \
            "Name another with PYTHON, as in: make run PYTHON=python3.12"
    elif ! command -v uv >/dev/null && [[ ! -x $own_uv ]] &&
        ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        lacks python3-venv "$python cannot make a virtual environment: its venv or ensurepip module is missing."
    fi
}

check_libgomp() {
    if command -v "$python" >/dev/null && ! "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null; then
        lacks libgomp1 "LightGBM needs the system library libgomp.so.1."
    fi
}

# What the environment was made from, and where: its scripts name their folder, so a moved one is made anew.
wanted() {
    pwd
    cksum requirements.lock pyproject.toml
}

set_up() {
    local uv
    if [[ -e $stamp && $(head -n 1 "$stamp") != "$PWD" ]] || { [[ -e $venv ]] && ! supported_python "$venv/bin/python"; }; then
        echo "$venv was made for another folder or another Python: making it anew."
        rm -rf "$venv"
    fi
    if uv=$(command -v uv); then
        [[ -e $venv/bin/python ]] || "$uv" venv --quiet --python "$(command -v "$python")" "$venv"
    else
        [[ -e $venv/bin/python ]] || "$python" -m venv "$venv"
        uv=$own_uv
        if [[ ! -x $uv ]]; then
            "$venv/bin/python" -m ensurepip >/dev/null
            "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --target "$venv/uv" uv
        fi
    fi
    rm -f "$stamp"
    # compiled now: where PYTHONDONTWRITEBYTECODE is set, as in many containers, each process would do it anew
    "$uv" pip sync --quiet --compile-bytecode --python "$venv/bin/python" --require-hashes requirements.lock
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
    # `dagster asset list` and `dagster job execute` read no workspace.yaml: here they find the definitions unflagged
    cp deploy/dagster_module_name.pth "$venv"/lib/python3*/site-packages/
    # a session starts with a fraction of the work then; without it all goes as ever
    "$venv/bin/python" -m resources.spark_classes >/dev/null 2>&1 || true
    wanted >"$stamp"
}

check_java
check_python
check_libgomp
if [[ ${1:-} == --missing ]]; then
    printf '%s\n' "${packages[@]}"
elif ((${#packages[@]})); then
    fail "${reasons[@]}" "Install it with:" "    sudo apt-get install -y ${packages[*]}"
elif [[ ! -e $stamp || $(cat "$stamp") != "$(wanted)" ]]; then
    echo "Setting up $venv from requirements.lock: minutes the first time, a moment after that."
    set_up
fi
