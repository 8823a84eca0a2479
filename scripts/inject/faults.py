"""The list of faults, and what they share: small data, runs in this process, and the check of what a run left."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from runs import contents, differences

import evalkit
from evalkit.data.images import write_png
from evalkit.errors import EvalkitError

METHODS = ("CDDFuse", "average")  # one by the user's outputs, one that evalkit fuses
PAIRS = 6


@dataclass(frozen=True)
class Outcome:
    """What a fault gave: nothing wrong is an empty text."""

    wrong: str
    told: str


Fault = Callable[[Path], Iterator[tuple[str, Outcome]]]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    """Register a function that, given an empty folder, injects a fault in one or several ways: name and outcome."""

    def register(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return register


def picture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth random gray image with noise."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 3)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return np.clip(smooth * 220 + rng.normal(10, 6, (height, width)), 0, 255).astype(np.uint8)


class Bench:
    """A small data set, fused images of a method, and the folder of an undisturbed run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.outputs, self.out = folder / "data", folder / "outputs", folder / "run"
        for i in range(1, PAIRS + 1):
            infrared, visible = picture(i), picture(100 + i)
            write_png(self.data / "TNO" / "ir" / f"{i:02d}.png", infrared)
            write_png(self.data / "TNO" / "vi" / f"{i:02d}.png", visible)
            write_png(self.outputs / "CDDFuse" / "TNO" / f"{i:02d}.png", np.maximum(infrared, visible))
        self.run("whole")
        self.whole = contents(folder / "whole")

    def run(self, out: str = "run", **options: object) -> str:
        """A run; what it warned of, and the reasons of its missing values, or its error."""
        told: list[str] = []
        listener = logging.Handler()
        listener.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("evalkit").addHandler(listener)
        options = {"datasets": "TNO", "methods": METHODS, "workers": 1} | options
        try:
            table = evalkit.reproduce(
                "smfnet-table1", self.data, outputs=self.outputs, out=self.folder / out, **options
            )
            told += [cell.reason for cell in table.cells if cell.value is None]
        except EvalkitError as error:
            told.append(f"stopped: {error}")
        finally:
            logging.getLogger("evalkit").removeHandler(listener)
        return "; ".join(dict.fromkeys(told))

    def wrong_rows(self) -> list[str]:
        """Stored values that an undisturbed run does not have: of the score files, journals and tables."""
        wrong = []
        for path in (*self.out.glob("scores/TNO/*.csv*"), *self.out.glob("table.csv")):
            name = str(path.relative_to(self.out)).removesuffix(".partial")
            right = {tuple(row) for row in csv.reader(self.whole[name].decode().splitlines())}
            if path.name == "table.csv":
                values = {row["value"] for row in csv.DictReader(self.whole[name].decode().splitlines())} | {""}
                rows = csv.DictReader(path.read_text().splitlines())
                wrong += [f"{path.name}: {row['value']}" for row in rows if row["value"] not in values]
            else:
                rows_there = csv.reader(path.read_text().splitlines())
                wrong += [f"{path.name}: {row[0]}" for row in rows_there if row and tuple(row) not in right]
        return wrong

    def outcome(self, told: str, must_say: str, *, mended: bool = True) -> Outcome:
        """The verdict on a run that a fault met, and on the undisturbed one that follows it."""
        wrong = self.wrong_rows()
        if must_say not in told:
            wrong.append(f"it did not say {must_say!r}")
        if mended:
            self.run()
            if different := differences(self.whole, contents(self.out)):
                wrong.append(f"the next run differs in {', '.join(different[:3])}")
        shutil.rmtree(self.out, ignore_errors=True)
        return Outcome("; ".join(wrong), told[:230])


@contextmanager
def moved(path: Path) -> Iterator[None]:
    """A file or folder that is away, and back afterwards."""
    away = path.with_name(f"{path.name}-away")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)
