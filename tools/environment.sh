# Sourced by bin/podium and bin/test: gives them a ready environment for one requirement set.
# POSIX sh, because it runs before any Python does. On a ready environment it starts one program, cmp.

# Set $python to the interpreter of an environment that holds requirements/$1.txt; build it if need be.
# Exit code 69 (EX_UNAVAILABLE) when that cannot be done, 130 when it was interrupted.
ensure_environment() {
    if ! environment_is_ready "$1"; then
        find_builder
        "$builder" -I "$root/tools/environment.py" "$1"
        environment_is_ready "$1" || {
            echo "podium: the environment in $root/.venv is not what was just built; remove it and try again." >&2
            exit 69
        }
    fi
    # The folder behind the link: a rebuild in another terminal must not change the files under a running command.
    python=$generation/bin/python
}

# The stamps are written last: they are copies of the requirements that were installed, and the place.
environment_is_ready() {
    [ -L "$root/.venv" ] && [ -x "$root/.venv/bin/python" ] || return 1
    [ -r "$root/.venv/podium/place" ] || return 1
    { IFS= read -r built_for && IFS= read -r generation; } <"$root/.venv/podium/place" || return 1
    [ "$built_for" = "$root" ] && cmp -s "$root/requirements/$1.txt" "$root/.venv/podium/$1.txt"
}

# Set $builder to a Python 3.11 or newer; those that the tests run on come first.
# A pyenv shim may stand on PATH and not work, so each candidate is run.
find_builder() {
    if [ -n "${PODIUM_PYTHON-}" ]; then
        set -- "$PODIUM_PYTHON"
    else
        set -- python3 python3.13 python3.12 python3.11 python3.14 python
    fi
    for below in '(3, 14)' '(4,)'; do
        for builder in "$@"; do
            "$builder" -I -c "import sys; sys.exit(not (3, 11) <= sys.version_info < $below)" >/dev/null 2>&1 && return 0
        done
    done
    echo "podium: no Python 3.11 or newer was found.
  looked for: $*
  on PATH:    $PATH
Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13;
anywhere: uv python install 3.13) or name one with PODIUM_PYTHON=/path/to/python3." >&2
    exit 69
}
