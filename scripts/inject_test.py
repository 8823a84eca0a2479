"""Faults injected into runs: what is stored must be right, what is not must be said, and the next run must mend it.

    python scripts/inject_test.py [--only TEXT] [--out FOLDER]

Prints a line per fault and ends with how many gave something wrong. The faults are functions in `scripts/inject/`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from inject.faults import FAULTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="faults whose name holds this text")
    parser.add_argument("--out", type=Path, help="an empty folder to work in; a temporary one when not given")
    options = parser.parse_args()
    for path in sorted((Path(__file__).parent / "inject").glob("[!_]*.py")):
        importlib.import_module(f"inject.{path.stem}")
    wrong = count = 0
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, inject) in enumerate(FAULTS.items()):
            if options.only not in name:
                continue
            folder = (options.out or Path(temporary)) / str(number)
            folder.mkdir(parents=True)
            for way, outcome in inject(folder):
                count += 1
                wrong += bool(outcome.wrong)
                told = " ".join(outcome.told.replace(str(folder), "").split())
                verdict = f"WRONG: {outcome.wrong}" if outcome.wrong else "right"
                print(f"{name}: {way}: {verdict} ({told or 'nothing to say'})", flush=True)
    print(f"{count} faults, {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
