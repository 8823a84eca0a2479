"""A pytest plugin: the fixture `evalkit_check` fails a test when a metric of fused images moved.

pytest loads this module in every run where evalkit is installed, so it imports nothing heavy until the fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import pytest

from evalkit.errors import EvalkitError


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("evalkit").addoption(
        "--evalkit-update", action="store_true", help="write the golden files of evalkit_check from what is measured"
    )


@pytest.fixture
def evalkit_check(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function that fails the test when a metric is not what a golden file says.

    `evalkit_check(golden, fused, infrared, visible, metrics=None, tolerance=None, workers=None)`. With
    `pytest --evalkit-update` it writes the golden file instead.
    """
    base, updating = request.path.parent, bool(request.config.getoption("--evalkit-update"))

    def check(
        golden: str | os.PathLike[str],
        fused: str | os.PathLike[str],
        infrared: str | os.PathLike[str],
        visible: str | os.PathLike[str],
        metrics: Iterable[str] | None = None,
        tolerance: float | None = None,
        workers: int | None = None,
    ) -> None:
        """Fail the test when a metric is not what the golden file says, or write that file.

        Args:
            golden: CSV file, relative to the folder of the test's file.
            fused, infrared, visible: folders of images, relative to the same folder.
            metrics: what a golden file that is written holds, as for `evalkit.evaluate`; None for what it held, or
                every metric where it is new.
            tolerance: relative, of each line of a golden file that is written; None keeps what a line had, and is 1e-6
                for a new one.
            workers: processes; None for one per processor.
        """
        __tracebackhide__ = True
        from evalkit.testing.golden import (  # numpy and the metrics, which other tests do without
            moved_text,
            update_golden,
        )

        file, folders = base / golden, (base / fused, base / infrared, base / visible)
        try:
            if updating:
                update_golden(file, folders, metrics, tolerance=tolerance, workers=workers)
            text = "" if updating else moved_text(file, folders, workers)
        except EvalkitError as error:
            text = str(error)
        if text:
            pytest.fail(text, pytrace=False)

    return check
