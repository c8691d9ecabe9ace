"""Measure load, check and comparison of large contracts: `python benchmarks/check.py`.

Ten event types a channel, one schema file each, with references, examples and consumers; in the released state every
tenth schema is another. The cost of an event type should not grow with their number. Each figure is the CPU time
of a whole process, its start included; `check --against` is the check, the loading of the release, and the comparison.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIZES = (10, 100, 1_000, 10_000)
GOALS = {"load": "< 8 s at 10,000", "check": "< 15 s at 10,000", "check --against": "< 25 s at 10,000"}


def schema(number: int, *, released: bool) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": f"Event {number}.",
        "type": "object",
        "properties": {
            "id": {"type": "integer", "minimum": 0 if number % 10 or not released else 1},
            "when": {"type": "string", "format": "date-time"},
            "size": {"$ref": "../common.json#/$defs/size"},
            "tags": {"items": {"type": "string", "pattern": f"^[a-z]{{1,{number % 7 + 3}}}$"}, "maxItems": 9},
            "kind": {"enum": ["a", "b", f"k{number}"]},
        },
        "required": ["id", "kind"] if number % 20 or released else ["id", "kind", "when"],
        "additionalProperties": False,
    }  # fmt: skip


COMMON = {
    "$defs": {
        "size": {
            "type": "object",
            "properties": {"width": {"type": "integer", "minimum": 1}, "height": {"type": "integer", "minimum": 1}},
            "required": ["width", "height"],
        }
    }
}


def write_project(directory: Path, count: int, *, released: bool) -> Path:
    (directory / "schemas").mkdir(parents=True)
    (directory / "schemas" / "common.json").write_text(json.dumps(COMMON))
    lines = ["version: 1", "channels:"]
    code = ["from channelmap import AsyncConsumer", ""]
    for channel in range(count // 10):
        lines += [f"  channel-{channel}:", f"    consumer: consumers{count}.Consumer{channel}", "    events:"]
        code += [f"class Consumer{channel}(AsyncConsumer):"]
        (directory / "schemas" / f"c{channel}").mkdir()
        for number in range(channel * 10, channel * 10 + 10):
            name = f"schemas/c{channel}/event{number}.json"
            (directory / name).write_text(json.dumps(schema(number, released=released), indent=2))
            lines += [
                f"      event.{number}:",
                f"        schema: {name}",
                f"        accepts: [{{type: event.{number}, id: 7, kind: a, when: '2026-11-22T09:00:00Z'}}]",
                f"        rejects: [{{type: event.{number}, id: -1, kind: a}}]",
            ]
            code += [f"    async def event_{number}(self, event): ..."]
        code += [""]
    (directory / f"consumers{count}.py").write_text("\n".join(code))
    (directory / "channels.yaml").write_text("\n".join(lines) + "\n")
    return directory / "channels.yaml"


def cpu_seconds(directory: Path, arguments: list[str], *, exit_code: int) -> float:
    """Run a command in a process of its own; return the CPU time of that, which other processes hardly change."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, *arguments], cwd=directory, **quiet) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == exit_code, (arguments, process.returncode)
    return usage.ru_utime + usage.ru_stime


def measure(directory: Path, count: int) -> dict[str, float]:
    new = write_project(directory / "new", count, released=False)
    old = write_project(directory / "old", count, released=True)
    check = ["-m", "channelmap", "check", new.name]
    return {
        "load": cpu_seconds(new.parent, ["-c", f"import channelmap; channelmap.load({new.name!r})"], exit_code=0),
        "check": cpu_seconds(new.parent, check, exit_code=0),
        "check --against": cpu_seconds(new.parent, [*check, "--against", str(old)], exit_code=1),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        times = {count: measure(Path(name) / str(count), count) for count in SIZES}
    print(f"{'CPU time':<20}" + "".join(f"{f'{count:,} types':>24}" for count in SIZES))
    for step, goal in GOALS.items():
        cells = [f"{times[count][step]:.2f} s, {times[count][step] / count * 1e3:.2f} ms each" for count in SIZES]
        print(f"{step:<20}" + "".join(f"{cell:>24}" for cell in cells) + f"   {goal}")


if __name__ == "__main__":
    main()
