"""Files that change, vanish or cannot be read while a run goes on."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from evalkit.data import images
from evalkit.data.images import write_png
from evalkit.errors import UnreadableError
from evalkit.protocols import fusion, measure
from inject.faults import Bench, Outcome, fault, moved, picture


@fault("file swapped between hash and decode")
def swapped(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Before its bytes are read, after they are read, and again and again by a thread while the run goes on."""
    bench = Bench(folder)
    fused, source = bench.outputs / "CDDFuse/TNO/03.png", bench.data / "TNO/vi/02.png"
    for path, at in ((fused, "measure_rows"), (source, "measure_rows"), (source, "fuse_jobs")):
        kept = path.read_bytes()
        module = measure if at == "fuse_jobs" else fusion
        real = getattr(module, at)

        def swap(*arguments: object, path: Path = path, real: object = real) -> object:
            write_png(path, picture(999))
            return real(*arguments)  # type: ignore[operator]

        with patch.object(module, at, swap):
            told = bench.run()
        path.write_bytes(kept)
        name = f"{path.parent.name}/{path.name}, before {at}"
        yield name, bench.outcome(told, f"{path.name} changed while the run was going on")
    kept, real_decode = fused.read_bytes(), images.decode

    def late(data: bytes, name: object, *more: object) -> object:
        if str(name) == str(fused):
            write_png(fused, picture(998))
        return real_decode(data, name, *more)  # type: ignore[arg-type]

    with patch("evalkit.metrics.evaluate.decode", late):
        told = bench.run()
    fused.write_bytes(kept)
    yield "fused image, between its bytes and its pixels", bench.outcome(told, "")
    for number in range(5):
        told = _restless(bench, fused, number)
        fused.write_bytes(kept)
        yield f"fused image, again and again, {number + 1}", _by_key(bench, told)


def _restless(bench: Bench, path: Path, seed: int) -> str:
    """A run while a thread writes one of two images, again and again."""
    stop, contents = threading.Event(), [path.read_bytes()]
    write_png(path, picture(2000))
    contents.append(path.read_bytes())

    def write() -> None:
        turn = seed
        while not stop.wait(0.001):
            turn += 1
            part = path.with_suffix(".new")
            part.write_bytes(contents[turn % 2])
            os.replace(part, path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return bench.run()
    finally:
        stop.set()
        writer.join()


def _by_key(bench: Bench, told: str) -> Outcome:
    """The stored row of the restless image is that of one of both, whichever key it has; and the next run mends."""
    rows = (bench.out / "scores/TNO/CDDFuse.csv").read_text().splitlines()
    found = next((row for row in rows if row.startswith("03,")), "")
    write_png(bench.outputs / "CDDFuse/TNO/03.png.other.png", picture(2000))
    other = (bench.outputs / "CDDFuse/TNO/03.png.other.png").read_bytes()
    (bench.outputs / "CDDFuse/TNO/03.png.other.png").unlink()
    path = bench.outputs / "CDDFuse/TNO/03.png"
    kept = path.read_bytes()
    path.write_bytes(other)
    bench.run("other")
    path.write_bytes(kept)
    texts = [
        bench.whole["scores/TNO/CDDFuse.csv"].decode(),
        (bench.folder / "other/scores/TNO/CDDFuse.csv").read_text(),
    ]
    wrong = "" if not found or any(found in text.splitlines() for text in texts) else "a row of neither image"
    bench.run()
    rest = bench.outcome("", "", mended=True)
    return Outcome(
        "; ".join(filter(None, [wrong, rest.wrong])), told or "a row of one of both images, under its own hash"
    )


@fault("folder away and back")
def away(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Away while images are fused or measured; away from the beginning for a moment."""
    bench = Bench(folder)
    for path in (bench.data / "TNO/ir", bench.outputs / "CDDFuse/TNO"):
        real = fusion.measure_rows

        def without(*arguments: object, path: Path = path, real: object = real) -> object:
            with moved(path):
                return real(*arguments)  # type: ignore[operator]

        with patch.object(fusion, "measure_rows", without):
            told = bench.run()
        yield f"{path.parent.name}/{path.name}, while measured", bench.outcome(told, "no such image")
    real_read, left = images.read_file, [2]

    def blink(path: object, limit: int = 0) -> bytes:
        if left[0]:
            left[0] -= 1
            raise UnreadableError(f"cannot read {path}: No such file or directory")
        return real_read(path, limit)  # type: ignore[arg-type]

    with patch.object(images, "read_file", blink):
        told = bench.run()
    outcome = bench.outcome(told, "")
    yield (
        "for two reads",
        Outcome(outcome.wrong or ("" if not told else "it was not tried again"), told or "tried again"),
    )


@fault("EIO, ESTALE, EACCES and MemoryError")
def system(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """In reading a file, in a decoder, and in a metric."""
    from PIL import PngImagePlugin

    bench = Bench(folder)
    real_open = open
    for number in (errno.EIO, errno.ESTALE, errno.EACCES):

        def broken(path: object, *arguments: object, number: int = number, **options: object) -> object:
            if str(path).endswith("04.png"):
                raise OSError(number, os.strerror(number))
            return real_open(path, *arguments, **options)  # type: ignore[call-overload]

        with patch("evalkit.files.read.open", broken, create=True):
            told = bench.run()
        yield f"{errno.errorcode[number]} in read", bench.outcome(told, os.strerror(number))
    for error, says in ((MemoryError(), "memory ran out"), (OSError(errno.EIO, "Input/output error"), "Input/output")):

        def load(self: object, error: BaseException = error) -> None:
            raise error

        with patch.object(PngImagePlugin.PngImageFile, "load", load):
            told = bench.run()
        yield f"{type(error).__name__} in a decoder", bench.outcome(told, says)

    def short(*_: object) -> None:
        raise MemoryError

    with patch("evalkit.metrics.evaluate.measure", short):
        told = bench.run()
    yield "MemoryError in a metric", bench.outcome(told, "memory ran out")
