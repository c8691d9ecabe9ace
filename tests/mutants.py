"""Report of `make mutants`: which mutants of the code no test has noticed, with the reason where one is known."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

#: Exit codes of mutmut for a mutant: the tests passed; no test calls the function; mypy refuses it.
SURVIVED, UNTESTED, REFUSED = 0, (5, 33), 37
ROOT = Path(__file__).parent.parent


_STRICT = re.compile(r",\s*(strict=\w+)?(?=\))")
_SQL = re.compile(r"\b(SELECT|DELETE|INSERT|UPDATE|ROLLBACK|SAVEPOINT|RELEASE|WHERE)\b|\bfor table in\b")


def change(mutant: str) -> tuple[str, str]:
    """Return the lines that a mutant removes, and those that it adds, in one line each."""
    shown = subprocess.run(["mutmut", "show", mutant], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if line[:3] not in {"---", "+++"}]
    removed, added = (" ".join(line[1:].strip() for line in lines if line[:1] == sign) for sign in "-+")
    return removed, added


def reason_for(removed: str, added: str, reasons: Mapping[str, str]) -> str | None:
    """Return why no test can notice a mutant, or need not; `None` when no reason is known."""
    if removed.casefold() == added.casefold() and _SQL.search(removed):
        return "equivalent: SQL does not tell capital letters from small ones"
    if _STRICT.sub("", removed) == _STRICT.sub("", added):
        return "equivalent: an assertion, which holds, that both are equally long"
    return reasons.get(added)


def main() -> int:
    codes: dict[str, int | None] = {}
    for path in sorted((ROOT / "mutants/src").rglob("*.meta")):
        codes |= json.loads(path.read_text())["exit_code_by_key"]
    reasons = tomllib.loads((ROOT / "tests/mutants.toml").read_text())["reasons"]
    judged = {name: code for name, code in codes.items() if code is not None}
    unnoticed = [name for name, code in judged.items() if code == SURVIVED or code in UNTESTED]
    unexplained = 0
    for name in unnoticed:
        removed, added = change(name)
        reason = reason_for(removed, added, reasons)
        unexplained += reason is None
        sys.stdout.write(f"{name}\n    {added}\n    {reason or 'no reason is known'}\n")
    refused = sum(code == REFUSED for code in judged.values())
    tested = len(judged) - refused
    killed = tested - len(unnoticed)
    sys.stdout.write(
        f"{len(judged)} of {len(codes)} judged, {100 * (refused + killed) / max(1, len(judged)):.1f} % noticed: "
        f"mypy refused {refused}; of the others the tests killed {killed} ({100 * killed / max(1, tested):.1f} %); "
        f"{len(unnoticed)} survived, {unexplained} of them without a reason\n"
    )
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
