"""Build the environment that bin/podium and bin/test run in; owns .venv and .venvs.

`.venv` is a link to the newest generation, `.venvs/<number>`. A generation is built in its own place
and the link is moved last, so an interrupted build is never seen and a running command keeps the files
it started with. The sets of requirements are nested (run < claude < test): a generation grows from one
to the next, which only adds packages; any other change makes a new generation.

Runs on the machine's own Python: 3.11 or newer, standard library only, nothing of the project.
"""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

SETS = ("run", "claude", "test")
# Megabytes that a set takes when it is unpacked, rounded up, and pip's room for the archives.
DISK_NEEDED_MB = {"run": 900, "claude": 1800, "test": 2300}
# A first build over a slow line takes minutes; a build that takes longer than this hangs.
LOCK_WAIT_S_MAX = 1800
INSTALL_S_MAX = 1800
LOCK_POLL_S = 0.2
LOG_TAIL_LINES = 15
EX_UNAVAILABLE = 69
INTERRUPTED = 130

# `pip --python` came with this version.
PIP_THAT_INSTALLS_ELSEWHERE = (22, 3)

PIP_MISSING = f"""\
{sys.executable} can install nothing: it comes without ensurepip, and without a pip of 22.3 or newer.
Install it (Debian, Ubuntu: apt install python3-venv), or name another Python with PODIUM_PYTHON."""


class EnvironmentBuildError(Exception):
    """The environment cannot be built; the text says why and what to do."""


@dataclass(frozen=True)
class Checkout:
    """The folders of one checkout that this module reads and writes."""

    root: Path

    @property
    def link(self) -> Path:
        """The current generation."""
        return self.root / ".venv"

    @property
    def generations(self) -> Path:
        """Where the generations lie, with the lock and pip's log."""
        return self.root / ".venvs"

    @property
    def log(self) -> Path:
        """What pip said in the last build."""
        return self.generations / "pip.log"

    def requirements(self, name: str) -> Path:
        """The pinned requirements of a set."""
        return self.root / "requirements" / f"{name}.txt"


def main(arguments: list[str]) -> int:
    """Make the environment hold the named set; return the exit code for the calling script."""
    if len(arguments) != 1 or arguments[0] not in SETS:
        say(f"expected one of {', '.join(SETS)}, got {' '.join(arguments) or 'nothing'}")
        return os.EX_USAGE
    checkout = Checkout(Path(__file__).resolve().parent.parent)
    try:
        ensure(checkout, arguments[0])
    except (EnvironmentBuildError, OSError) as error:
        say(f"the environment in {checkout.link} could not be built.\n{error}")
        return EX_UNAVAILABLE
    except KeyboardInterrupt:
        say("interrupted; the next run starts this step again.")
        return INTERRUPTED
    return 0


def ensure(checkout: Checkout, name: str) -> None:
    """Build or grow the environment unless it is ready by the time the lock is ours.

    Raises:
        EnvironmentBuildError: something a person has to put right.
    """
    if checkout.link.exists() and not checkout.link.is_symlink():
        raise EnvironmentBuildError(f"{checkout.link} was not made by Podium; move it away and try again.")
    checkout.generations.mkdir(exist_ok=True)
    with locked(checkout) as lock:
        if is_ready(checkout, name):
            return
        check_disk(checkout, name)
        started = time.monotonic()
        if can_grow(checkout):
            say(f"adding what this command needs to {checkout.link} (once) …")
            grow(checkout, checkout.link.resolve(), name, lock)
        else:
            say(f"building {checkout.link} with Python {sys.version.split()[0]} (once) …")
            replace(checkout, name, lock)
        say(f"environment ready after {time.monotonic() - started:.0f} s.")


@contextlib.contextmanager
def locked(checkout: Checkout) -> Iterator[int]:
    """Hold the checkout's lock; give its file descriptor.

    pip inherits the descriptor: when this process is killed, the lock stays until pip has ended too.
    """
    with (checkout.generations / "lock").open("w") as file:
        deadline = time.monotonic() + LOCK_WAIT_S_MAX
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    say("another command is building the environment; waiting for it …")
                waiting = True
            if time.monotonic() > deadline:
                raise EnvironmentBuildError(
                    f"Another build has held {file.name} for {LOCK_WAIT_S_MAX} s; end it first."
                )
            time.sleep(LOCK_POLL_S)
        yield file.fileno()


def is_ready(checkout: Checkout, name: str) -> bool:
    """Whether the current generation holds the set as it is pinned now (as environment.sh asks)."""
    return is_whole(checkout) and is_current(checkout, name)


def is_whole(checkout: Checkout) -> bool:
    """Whether there is a generation, built for this folder, whose interpreter still exists."""
    stamp = checkout.link / "podium" / "place"
    if not os.access(checkout.link / "bin" / "python", os.X_OK) or not stamp.is_file():
        return False
    return stamp.read_text(encoding="utf-8") == place(checkout, checkout.link.resolve())


def place(checkout: Checkout, generation: Path) -> str:
    """Return the stamp of a generation's place: the checkout, and the generation; both absolute, a line each."""
    return f"{checkout.root}\n{generation}\n"


def is_current(checkout: Checkout, name: str) -> bool:
    """Whether the set was installed whole, with today's pins."""
    stamp = checkout.link / "podium" / f"{name}.txt"
    return stamp.is_file() and filecmp.cmp(stamp, checkout.requirements(name), shallow=False)


def can_grow(checkout: Checkout) -> bool:
    """Whether packages may be added: all that is installed is current, and no earlier growth broke off."""
    if not is_whole(checkout) or (checkout.link / "podium" / "growing").exists():
        return False
    installed = [name for name in SETS if (checkout.link / "podium" / f"{name}.txt").exists()]
    return bool(installed) and all(is_current(checkout, name) for name in installed)


def grow(checkout: Checkout, generation: Path, name: str, lock: int) -> None:
    """Install a set and stamp it, with the smaller ones that it holds."""
    growing = generation / "podium" / "growing"
    growing.touch()
    install(checkout, generation, name, lock)
    for included in SETS[: SETS.index(name) + 1]:
        partial = generation / "podium" / f"{included}.partial"
        shutil.copyfile(checkout.requirements(included), partial)
        partial.replace(generation / "podium" / f"{included}.txt")
    growing.unlink()


def replace(checkout: Checkout, name: str, lock: int) -> None:
    """Build a new generation, move the link to it, and keep only the one before it.

    The one before stays for the commands that still run from it.
    """
    before = checkout.link.resolve() if checkout.link.is_symlink() else None
    numbers = [int(path.name) for path in checkout.generations.iterdir() if path.name.isdecimal()]
    for number in numbers:
        if checkout.generations / str(number) != before:
            shutil.rmtree(checkout.generations / str(number))
    generation = checkout.generations / str(max(numbers, default=0) + 1)
    try:
        create(generation)
        (generation / "podium").mkdir()
        site_packages(generation).joinpath("podium-checkout.pth").write_text(f"{checkout.root}\n", encoding="utf-8")
        (generation / "podium" / "place").write_text(place(checkout, generation), encoding="utf-8")
        grow(checkout, generation, name, lock)
    except BaseException:
        shutil.rmtree(generation, ignore_errors=True)
        raise
    new_link = checkout.generations / "link"
    new_link.unlink(missing_ok=True)
    new_link.symlink_to(generation.relative_to(checkout.root))
    new_link.replace(checkout.link)


def create(generation: Path) -> None:
    """Make an empty environment; it gets a pip of its own only when this Python has none to lend.

    Borrowing saves the 7 CPU seconds of installing pip, and works where Debian has split off ensurepip.
    The interpreter is named by its real path, so that an upgrade that removes it is seen.

    Raises:
        EnvironmentBuildError: there is neither a pip nor a way to get one.
    """
    command = [os.path.realpath(sys.executable), "-I", "-m", "venv", str(generation)]
    if lends_pip():
        command.append("--without-pip")
    elif not has_ensurepip():
        raise EnvironmentBuildError(PIP_MISSING)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S_MAX)
    if done.returncode != 0:
        raise EnvironmentBuildError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")


def lends_pip() -> bool:
    """Whether this Python has a pip that can install into another environment."""
    try:
        version = metadata.version("pip")
    except metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) >= PIP_THAT_INSTALLS_ELSEWHERE


def has_ensurepip() -> bool:
    """Whether this Python can put pip into an environment; Debian splits that off into python3-venv."""
    return importlib.util.find_spec("ensurepip") is not None


def site_packages(generation: Path) -> Path:
    """Return where the generation's packages lie."""
    return generation / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def install(checkout: Checkout, generation: Path, name: str, lock: int) -> None:
    """Let pip install one set by its hashes, showing each download and keeping the rest in the log.

    Raises:
        EnvironmentBuildError: with the end of what pip said.
    """
    command = [*pip_command(generation), "install", "--require-hashes", "--no-input", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--requirement", str(checkout.requirements(name))]
    with (
        checkout.log.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=pip_environment(), pass_fds=(lock,),
        ) as pip,
    ):  # fmt: skip
        assert pip.stdout is not None
        for line in pip.stdout:
            log.write(line)
            report(line.strip())
    if pip.returncode != 0:
        tail = "\n".join(checkout.log.read_text(encoding="utf-8").splitlines()[-LOG_TAIL_LINES:])
        raise EnvironmentBuildError(
            f"pip ended with exit code {pip.returncode}; the end of {checkout.log}:\n{tail}\n"
            "The next run tries again; what was downloaded is in pip's cache."
        )


def pip_command(generation: Path) -> list[str]:
    """Return the pip that installs into the generation: its own, or the one that this Python lends."""
    python = str(generation / "bin" / "python")
    if (site_packages(generation) / "pip").is_dir():
        return [python, "-I", "-m", "pip"]
    return [sys.executable, "-I", "-m", "pip", "--python", python]


def pip_environment() -> dict[str, str]:
    """Return our environment without what would send the packages elsewhere; indexes and proxies stay."""
    elsewhere = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIREMENT", "PYTHONPATH", "PYTHONHOME"}
    return {**{key: value for key, value in os.environ.items() if key not in elsewhere}, "PIP_USER": "0"}


def report(line: str) -> None:
    """Show the lines of pip that a waiting person wants: what is fetched, and the long last step."""
    if line.startswith("Downloading ") and line.endswith(" MB)"):
        say(f"  fetching {line.removeprefix('Downloading ').rsplit('/', 1)[-1]}")
    elif line.startswith("Installing collected packages"):
        say(f"  installing {line.count(',') + 1} packages")


def check_disk(checkout: Checkout, name: str) -> None:
    """Refuse before a disk that is too small is full.

    Raises:
        EnvironmentBuildError: there is less room than the set takes.
    """
    free_mb = shutil.disk_usage(checkout.generations).free // 1_000_000
    if free_mb < DISK_NEEDED_MB[name]:
        raise EnvironmentBuildError(
            f"The disk of {checkout.root} has {free_mb} MB free; {DISK_NEEDED_MB[name]} MB are needed. Free some first."
        )


def say(text: str) -> None:
    """Tell the person who waits; stdout belongs to the command."""
    print(f"podium: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
