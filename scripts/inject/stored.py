"""Numbers and images of a finished run that somebody changes before the next one."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from evalkit.data.images import png_text, read_image, write_png
from evalkit.errors import DataError
from evalkit.records.per_image import parse_per_image, row_digest
from evalkit.records.record import load
from inject.faults import Bench, Outcome, fault, picture

Lines = list[list[str]]
SCORES = "scores/TNO/CDDFuse.csv"


def _digit(lines: Lines) -> None:
    text = lines[3][3]
    lines[3][3] = f"{text[:-2]}{(int(text[-2]) + 1) % 10}{text[-1]}"


EDITS: dict[str, Callable[[Lines], None]] = {
    "a digit": _digit,
    "-999": lambda lines: lines[3].__setitem__(3, "-999"),
    "1_0.5": lambda lines: lines[3].__setitem__(3, "1_0.5"),
    "a row twice": lambda lines: lines.insert(4, lines[3]),
    "a row twice with another value": lambda lines: lines.insert(3, [*lines[3][:3], "5.5", *lines[3][4:]]),
    "another image's values": lambda lines: lines[3].__setitem__(slice(2, None), lines[4][2:]),
    "a row without its digest": lambda lines: lines[3].__setitem__(-1, ""),
}


@fault("score edited")
def edited(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """In the finished file and in the journal: measured again, and said."""
    bench = Bench(folder)
    for name, edit in EDITS.items():
        for journal in (False, True):
            bench.run()
            path = bench.out / SCORES
            lines = list(csv.reader(path.read_text().splitlines()))
            edit(lines)
            if journal:
                path.unlink()
                path = path.with_name(path.name + ".partial")
            with path.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(lines)
            refused = "" if _refused(path) else "the file is read as if it were whole; "
            outcome = bench.outcome(bench.run(), "measured again")
            yield f"{name}, {'journal' if journal else 'file'}", Outcome(refused + outcome.wrong, outcome.told)


def _refused(path: Path) -> bool:
    try:
        parse_per_image(path.read_bytes(), str(path))
    except DataError:
        return True
    return False


@fault("row forged consistently")
def forged(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Value, digest, mean and hashes are all redone: only measuring again can tell, which `--existing replace` does."""
    bench = Bench(folder)
    bench.run()
    path = bench.out / SCORES
    lines = list(csv.reader(path.read_text().splitlines()))
    lines[3][2] = repr(float(lines[3][2]) + 0.25)
    lines[3][-1] = row_digest(lines[0], lines[3][:-1])
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    rows = parse_per_image(path.read_bytes(), str(path))
    place = bench.out / "records/TNO__CDDFuse.json"
    record = load(place)
    means = {metric: rows.mean(metric) for metric in rows.metrics}
    record = record.model_copy(update={"scores": means, "scores_hash": rows.hash()})
    record = record.model_copy(update={"record_hash": record.hash()})
    place.write_text(json.dumps(record.model_dump()))
    told = bench.run(existing="replace")
    yield "--existing replace measures it again", bench.outcome(told, "", mended=True)


@fault("fused image with other pixels under the same text")
def pixels(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """One pixel, the whole image, and an image that tells no digest: fused again."""
    bench = Bench(folder)
    for name in ("one pixel", "all pixels", "no digest", "half the file"):
        bench.run()
        path = bench.out / "fused/average/TNO/02.png"
        image, text = read_image(path), png_text(path)
        if name == "one pixel":
            image[5, 6] ^= 1
            write_png(path, image, text)
        elif name == "all pixels":
            write_png(path, picture(77), text)
        elif name == "no digest":
            write_png(path, image, {"evalkit": text["evalkit"]})
        else:
            path.write_bytes(path.read_bytes()[:-200])
        yield name, bench.outcome(bench.run(), "are not as they were fused (02)")
