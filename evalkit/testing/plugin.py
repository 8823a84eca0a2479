"""A pytest plugin: the fixture `evalkit_check` fails a test when a metric of fused images moved.

pytest loads this module in every run where evalkit is installed, so it imports nothing until the fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

SHOWN = 20  # values that moved, in the message of one test


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("evalkit").addoption(
        "--evalkit-update", action="store_true", help="write the golden files of evalkit_check from what is measured"
    )


@pytest.fixture
def evalkit_check(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function that fails the test when a metric is not what a golden file says.

    `evalkit_check(golden, fused, infrared, visible, metrics=None, tolerance=1e-6, workers=None)`: the golden CSV file
    and three folders of images, relative to the folder of the test's file. With `pytest --evalkit-update` it writes the
    golden file instead: of `metrics` (all when None), with this relative tolerance.
    """
    base, update = request.path.parent, bool(request.config.getoption("--evalkit-update"))

    def check(
        golden: str | os.PathLike[str],
        fused: str | os.PathLike[str],
        infrared: str | os.PathLike[str],
        visible: str | os.PathLike[str],
        metrics: Iterable[str] | None = None,
        tolerance: float = 1e-6,
        workers: int | None = None,
    ) -> None:
        __tracebackhide__ = True
        from evalkit.errors import EvalkitError

        file, folders = base / golden, (base / fused, base / infrared, base / visible)
        try:
            text = _update(file, folders, metrics, tolerance, workers) if update else _moved(file, folders, workers)
        except EvalkitError as error:
            text = str(error)
        if text:
            pytest.fail(text, pytrace=False)

    return check


def _update(
    file: Path, folders: tuple[Path, Path, Path], metrics: Iterable[str] | None, tolerance: float, workers: int | None
) -> str:
    from dataclasses import replace

    from evalkit.files.write import write_text
    from evalkit.metrics.registry import all_full_names
    from evalkit.testing.golden import measure_golden, write_golden

    values, _ = measure_golden(None, metrics or all_full_names(), folders, workers)
    write_text(file, write_golden(replace(one, tolerance=tolerance) for one in values))
    return ""


def _moved(file: Path, folders: tuple[Path, Path, Path], workers: int | None) -> str:
    """What moved, a line each; empty where nothing did."""
    from evalkit.testing.golden import check_golden, read_golden

    if not file.is_file():
        return f"there is no golden file {file}. Write it with pytest --evalkit-update, and commit it."
    wanted = read_golden(file)
    moved = check_golden(wanted, folders, workers)
    lines = [str(one) for one in moved[:SHOWN]]
    if len(moved) > SHOWN:
        lines.append(f"... and {len(moved) - SHOWN} more")
    more = "If that is meant: pytest --evalkit-update, and commit the file."
    return "\n".join([f"{len(moved)} of {len(wanted)} values of {file.name} moved:", *lines, more]) if moved else ""
