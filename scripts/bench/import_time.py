"""Processor time of fresh interpreters that import evalkit, in turns; medians."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

CASES = {
    "python -c pass": ["-c", "pass"],
    "import evalkit": ["-c", "import evalkit"],
    "python -m evalkit --version": ["-m", "evalkit", "--version"],
    "evalkit.evaluate": ["-c", "import evalkit; evalkit.evaluate"],
    "evalkit.reproduce": ["-c", "import evalkit; evalkit.reproduce"],
}


def spent() -> float:
    """Seconds of processor time of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print the medians."""
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 11):
        for name, arguments in CASES.items():
            before = spent()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(spent() - before)
    for name, values in seconds.items():
        print(f"{name:30} {statistics.median(values):.3f} s")


if __name__ == "__main__":
    main()
