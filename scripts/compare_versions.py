"""Do two checkouts give the same numbers? Audit findings, published tables in every format, runs, shipped records.

    python scripts/compare_versions.py BEFORE [AFTER] [--data-root DATA --outputs OUTPUTS]

A line per part, then what differs. A run that BEFORE wrote is read and resumed by AFTER. Exit code 1 where a number
differs; where only words differ they are counted, and pass.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
MANY, TOLERANCE = 12, 1e-9  # characters; another order of a sum moves the last digits of a full number
STYLE = re.compile(r"<style>.*?</style>|<[^<>]*>", re.DOTALL)  # of a page: not what it says
HASH = re.compile(r"(?<![.\w])[0-9a-f]{16,64}\b")  # keys and digests, which tell whether a row can be reused
SAMPLE = ["reproduce", "smfnet-table1", "--sample", "--methods", "average,maximum,laplacian"]


# in one process for many commands: a start takes longer than a table
PROGRAM = """
import json, sys
from click.testing import CliRunner
from evalkit.cli import main
results = [CliRunner().invoke(main, command) for command in json.loads(sys.stdin.read())]
print(json.dumps([[result.exit_code, result.stdout, result.stderr] for result in results]))
"""


def evalkit(checkout: Path, *commands: list[str], codes: tuple[int, ...] = (0, 3)) -> list[str]:
    """What each command of a checkout prints. Raises SystemExit where one fails."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
        cwd=tempfile.gettempdir(),
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    results = json.loads(done.stdout.splitlines()[-1])
    for command, (code, out, err) in zip(commands, results, strict=True):
        if code not in codes:
            raise SystemExit(f"{checkout}: evalkit {' '.join(command)} failed:\n{out}{err}")
    return [out for _, out, _ in results]


def numbers_of(key: str, text: str) -> list[str]:
    """The numbers of a text; of a page, those that are read."""
    return NUMBER.findall(STYLE.sub(" ", text) if key.endswith(".html") else text)


def same_numbers(before: list[str], after: list[str]) -> bool:
    """Whether the numbers of two texts are equal, one by one: as written, or, with many digits, to TOLERANCE."""
    if len(before) != len(after):
        return False
    return all(
        one == other or (max(len(one), len(other)) > MANY and math.isclose(float(one), float(other), rel_tol=TOLERANCE))
        for one, other in zip(before, after, strict=True)
    )


class Comparison:
    """Counts what is equal and keeps what is not."""

    def __init__(self) -> None:
        self.differs: list[str] = []

    def part(self, name: str, before: dict[str, str], after: dict[str, str]) -> None:
        """Compare texts by name: equal, equal in every number, or not."""
        self.differs += [f"{name}: {key} is missing" for key in sorted(before.keys() - after.keys())]
        both = sorted(before.keys() & after.keys())
        numbers = {key: tuple(numbers_of(key, texts[key]) for texts in (before, after)) for key in both}
        other = [key for key in both if not same_numbers(*numbers[key])]
        words = [key for key in both if before[key] != after[key] and key not in other]
        self.differs += [f"{name}: {key} has other numbers" for key in other]
        changed = f", {len(words)} in other words" if words else ""
        print(f"{name}: {len(both) - len(other)} of {len(before)} equal in every number{changed}", flush=True)


def findings(checkout: Path) -> dict[str, str]:
    """Table -> the audit's findings of it."""
    report: Any = json.loads(evalkit(checkout, ["audit", "--all", "--json"], codes=(0, 1, 3))[0])
    tables = report["tables"] if isinstance(report, dict) else report
    return {str(table.get("protocol", i)): json.dumps(table, sort_keys=True) for i, table in enumerate(tables)}


def published(checkout: Path) -> dict[str, str]:
    """Protocol and format -> the published table."""
    names = [entry["name"] for entry in json.loads(evalkit(checkout, ["list", "protocols", "--json"])[0])]
    wanted = [(name, form) for name in names for form in ("csv", "latex", "markdown", "html")]
    commands = [["table", "--published", name, "--format", form] for name, form in wanted]
    texts = evalkit(checkout, *commands, codes=(0, 2, 3))
    return {f"{name}.{form}": text for (name, form), text in zip(wanted, texts, strict=True)}


def files(run: Path) -> dict[str, str]:
    """The tables and scores of a run, without keys and digests."""
    paths = sorted([*run.glob("table.*"), *run.glob("scores/*/*.csv")])
    return {str(path.relative_to(run)): HASH.sub("", path.read_text(encoding="utf-8")) for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="?", default=Path(__file__).resolve().parents[1])
    parser.add_argument("--data-root")
    parser.add_argument("--outputs")
    arguments = parser.parse_args()
    before, after = arguments.before.resolve(), arguments.after.resolve()
    comparison = Comparison()
    comparison.part("audit", findings(before), findings(after))
    comparison.part("published tables", published(before), published(after))
    runs = [SAMPLE]
    if arguments.data_root:
        real = ["reproduce", "smfnet-table1", "--data-root", arguments.data_root, "--datasets", "TNO,RoadScene"]
        given = ["--outputs", arguments.outputs] if arguments.outputs else []
        runs.append([*real, "--methods", "CDDFuse,average", *given])
    with tempfile.TemporaryDirectory() as name:
        for number, command in enumerate(runs, 1):
            old, new, resumed = (Path(name) / f"{what}{number}" for what in ("before", "after", "resumed"))
            evalkit(before, [*command, "--out", str(old)])
            evalkit(after, [*command, "--out", str(new)])
            comparison.part(f"run {number}", files(old), files(new))
            shutil.copytree(old, resumed)
            evalkit(after, [*command, "--out", str(resumed)])
            comparison.part(f"run {number}, written before and resumed", files(old), files(resumed))
            (verdict,) = evalkit(after, ["leaderboard", "verify", str(resumed)], codes=(0, 1))
            print(f"run {number}, resumed and verified: {verdict.splitlines()[-1]}")
    (verdict,) = evalkit(after, ["leaderboard", "verify", str(before / "evalkit/leaderboards/measured")], codes=(0, 1))
    print(f"records that shipped before, verified: {verdict.splitlines()[-1]}")
    print(*comparison.differs, f"{len(comparison.differs)} differ", sep="\n")
    sys.exit(bool(comparison.differs))


if __name__ == "__main__":
    main()
