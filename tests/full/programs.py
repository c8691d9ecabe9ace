"""The programs that tests in this directory need beside Python, and their packages in Debian.

Run as a program, this file installs those that are missing, if it may: `make test-full` does that first.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Program:
    """A program.

    Attributes:
        package: Debian's package.
        commands: names of its command.
        directories: a pattern for those where the command may be, beside $PATH.

    """

    package: str
    commands: tuple[str, ...]
    directories: str = ""

    def path(self) -> str | None:
        """Return the path of the command; None if it is not installed."""
        directories = Path("/").glob(self.directories) if self.directories else ()
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, directories)])
        return next(filter(None, (shutil.which(command, path=path) for command in self.commands)), None)


PROGRAMS = {
    "chromium": Program("chromium", ("chromium", "chromium-browser", "google-chrome")),
    "chromedriver": Program("chromium-driver", ("chromedriver",)),
    "firefox": Program("firefox-esr", ("firefox", "firefox-esr")),
    "promtool": Program("prometheus", ("promtool",)),
    # Debian keeps the commands of a server for each major version, and not on the path.
    "postgres": Program("postgresql", ("postgres",), "usr/lib/postgresql/*/bin"),
}
#: Chromium without a screen, as root too, and without a network.
CHROMIUM_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def find(name: str) -> str:
    """Return the path of a program. Without it, the test is skipped; in CI, where $CI is set, it fails."""
    path = PROGRAMS[name].path()
    if path is None:
        problem = f"{name} is not installed (Debian's package {PROGRAMS[name].package})"
        if os.environ.get("CI"):
            pytest.fail(problem)
        pytest.skip(problem)
    return path


def main() -> None:
    """Install missing programs as root on Debian; name those that are still missing."""
    missing = _missing()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = [PROGRAMS[name].package for name in missing]
        sys.stdout.write(f"installing {' '.join(packages)}\n")
        sys.stdout.flush()
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            command = ["apt-get", "--quiet=2", "-o", "Dpkg::Use-Pty=0", *arguments]
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        missing = _missing()
    for name in missing:
        package, then = PROGRAMS[name].package, "fail" if os.environ.get("CI") else "are skipped"
        sys.stdout.write(f"{name} is missing (Debian's package {package}): tests that need it {then}\n")


def _missing() -> list[str]:
    return [name for name, program in PROGRAMS.items() if program.path() is None]


if __name__ == "__main__":
    main()
