"""Fused images that a record does not come with, made again by the same code and weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evalkit.data.hashes import digest, file_hash
from evalkit.data.pairs import ImagePair
from evalkit.errors import DataError
from evalkit.methods.arithmetic import Arithmetic
from evalkit.methods.fuse import FuseJob, fuse_unit, make_fuser, missing_for
from evalkit.methods.registry import method_card
from evalkit.records.record import Record

MADE_HERE = ("classical", "checkpoint")  # what `filled_from` says of images that evalkit fused


@contextmanager
def fused_again(record: Record, pairs: Iterable[ImagePair], checkpoints: Path | None) -> Iterator[dict[str, Path]]:
    """The pairs' fused images by stem, in a folder that is gone afterwards.

    They are the same files, byte for byte, where this machine computes the same pixels.

    Args:
        record: of a method that is filled from MADE_HERE.
        pairs: to be fused.
        checkpoints: folder of the weights.

    Raises:
        UnknownNameError: a method that is not known here.
        DataError: weights that are missing or others, or a pair that cannot be fused.
        EvalkitError: fused in an arithmetic that the processor does not have.
    """
    card = method_card(str(record.method.get("card") or record.method["name"]))
    if reason := missing_for(card, checkpoints):
        raise DataError(reason)
    arithmetic = Arithmetic.named(str(record.method.get("arithmetic") or ""))
    recolour = bool(record.method.get("recoloured"))
    jpeg = bool(record.method.get("saved"))
    fuser = make_fuser(card, checkpoints, device="cpu", recolour=recolour, arithmetic=arithmetic, keep_format=jpeg)
    if fuser.weights != (record.method.get("weights") or {}):
        raise DataError(f"the weights of {card.name} are not those that were measured")
    with tempfile.TemporaryDirectory(prefix="evalkit-") as folder:
        jobs = []
        for number, pair in enumerate(pairs):
            made_from = digest(fuser.identity, file_hash(pair.infrared), file_hash(pair.visible))
            jobs.append(FuseJob(pair, Path(folder) / f"{number}.png", made_from))
        for job, reason in zip(jobs, fuse_unit(fuser, jobs), strict=True):
            if reason:
                raise DataError(f"{job.pair.stem} cannot be fused: {reason}")
        yield {job.pair.stem: job.path for job in jobs}
