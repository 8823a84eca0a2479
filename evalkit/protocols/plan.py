"""What a run will do: which data sets and rows, from which images, written where."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evalkit.data.card import Card, load_card
from evalkit.data.pairs import PairSet, find_pairs, image_files, resolve
from evalkit.errors import DataError, EvalkitError, OutputError, UnknownNameError
from evalkit.methods.fuse import Fuser, make_fuser, missing_for
from evalkit.methods.outputs import find_outputs
from evalkit.methods.registry import check_name, method_card, method_cards
from evalkit.protocols.schema import DatasetUse, Protocol

Existing = Literal["reuse", "replace", "fail"]
Progress = Callable[[Iterable, int, str], Iterable]
SAMPLE_PAIRS = 8
SAMPLE_METHODS = ("average", "maximum", "laplacian")


@dataclass(frozen=True)
class Settings:
    """What a run was asked for, apart from the protocol."""

    out: Path
    outputs: Path | None
    checkpoints: Path | None
    device: str
    recolour: bool
    existing: Existing
    workers: int | None
    progress: Progress


@dataclass
class Row:
    """One method on one data set: its fused images by stem, or the reason why there are none."""

    method: str
    filled_from: str = ""  # outputs, data set, checkpoint, classical
    fuser: Fuser | None = None  # where evalkit fuses itself
    fused: dict[str, Path] = field(default_factory=dict)
    not_fused: dict[str, str] = field(default_factory=dict)
    hole: str = ""


def plan_datasets(chosen: Protocol, names: Iterable[str] | None, sample: bool) -> dict[str, DatasetUse]:
    """The protocol's data sets, or those named. Raises UnknownNameError, EvalkitError."""
    if sample:
        if names is not None:
            raise EvalkitError("--sample runs on the sample scenes alone: leave --datasets out.")
        if chosen.task == "complexity":
            raise EvalkitError(f"{chosen.name} needs no images: leave --sample out.")
        return {"samples": DatasetUse(pairs=SAMPLE_PAIRS)}
    if names is None:
        return dict(chosen.datasets)
    by_folded = {known.casefold(): known for known in chosen.datasets}
    uses = {}
    for name in names:
        if name.casefold() not in by_folded:
            raise UnknownNameError(f"data set of {chosen.name}", name, chosen.datasets)
        uses[by_folded[name.casefold()]] = chosen.datasets[by_folded[name.casefold()]]
    if not uses:
        raise EvalkitError("no data set is named. Leave --datasets out to measure all of the protocol's.")
    return uses


def plan_methods(chosen: Protocol, names: Iterable[str] | None, outputs: Path | None, sample: bool) -> list[str]:
    """The protocol's rows, or those named: registered methods and folders of fused images that the user brings.

    A sample run has no rows of the paper to fill: it runs three methods that need nothing but code.
    """
    if names is None:
        return list(SAMPLE_METHODS) if sample else list(chosen.methods)
    found = []
    own = {method.casefold(): method for method in chosen.methods}
    for name in names:
        if name.casefold() in own:
            found.append(own[name.casefold()])
            continue
        try:
            found.append(method_card(name).name)
        except UnknownNameError:
            if outputs is None or not (outputs / check_name(name)).is_dir():
                raise
            found.append(name)
    if not found:
        raise EvalkitError("no method is named. Leave --methods out to fill the protocol's rows.")
    return list(dict.fromkeys(found))


def plan_row(method: str, card: Card, pairs: PairSet, use: DatasetUse, settings: Settings) -> Row:
    """Where a method's fused images come from: the user's outputs, the data set's own, weights, or classical code."""
    given = find_outputs(settings.outputs, method, card.name, pairs.split)
    if given:
        return Row(method, "outputs", fused=given)
    if use.fused and (folder := resolve(pairs.root, use.fused.format(method=method))):
        return Row(method, "data set", fused=image_files(folder, allow_empty=True))
    card_of_method = method_cards().get(method)
    if card_of_method is None:
        return Row(method, hole=f"no fused images: put them in {settings.outputs}/<method>/{card.name}")
    if reason := missing_for(card_of_method, settings.checkpoints):
        if settings.outputs is None:
            cure = f"or give --outputs OUTPUTS with OUTPUTS/<method>/{card.name}/<stem>.png"
        else:
            cure = f"or put its fused images in {settings.outputs}/<method>/{card.name}"
        return Row(method, hole=f"{reason}; {cure}")
    try:
        fuser = make_fuser(
            card_of_method,
            settings.checkpoints,
            device=settings.device,
            workers=settings.workers,
            recolour=settings.recolour,
        )
    except DataError as error:  # weights that are damaged or of another network
        return Row(method, hole=str(error))
    folder = settings.out / "fused" / method / card.name
    fused = {pair.stem: folder / f"{pair.stem}.png" for pair in pairs.pairs}
    return Row(method, "checkpoint" if fuser.weights else "classical", fuser, fused)


def find_data_root(data_root: str | os.PathLike[str] | None) -> Path:
    """The data root as named, or EVALKIT_DATA. Raises DataError."""
    root = data_root if data_root is not None else os.environ.get("EVALKIT_DATA")
    cure = "Give --data-root DIR (or set EVALKIT_DATA) with the data sets in it, or --sample for generated scenes."
    if not root:
        raise DataError(f"no data root is named. {cure}")
    if not Path(root).is_dir():
        raise DataError(f"the data root {root} is not a folder. {cure}")
    return Path(root)


def find_outputs_root(outputs: str | os.PathLike[str] | None) -> Path | None:
    """The folder of the user's fused images, if one is named. Raises DataError where it does not exist."""
    if outputs is not None and not Path(outputs).is_dir():
        raise DataError(
            f"the outputs folder {outputs} does not exist. Expected {outputs}/<method>/<dataset>/<stem>.png."
        )
    return None if outputs is None else Path(outputs)


def find_checkpoints(checkpoints: str | os.PathLike[str] | None) -> Path | None:
    """The folder of weights, if one is named. Raises DataError where it does not exist."""
    if checkpoints is not None and not Path(checkpoints).is_dir():
        raise DataError(f"the checkpoints folder {checkpoints} does not exist. It holds the authors' weight files.")
    return None if checkpoints is None else Path(checkpoints)


def prepare_out(out: Path, existing: Existing) -> Path:
    """Make sure the output folder can be written before any work is done. Raises OutputError."""
    try:
        if existing == "fail" and out.exists() and any(out.iterdir()):
            raise OutputError(f"{out} is not empty. Use --existing reuse or replace, or choose another --out.")
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror or error}. Choose another --out.") from None
    return out


def sample_scenes(out: Path, progress: Progress) -> Path:
    """A data root with the sample scenes, drawn unless they are there already."""
    from evalkit.data.scenes import write_scenes

    root = out / "data"
    try:
        complete = len(find_pairs(load_card("samples"), root).pairs) == SAMPLE_PAIRS
    except DataError:
        complete = False
    if not complete:
        steps = iter(progress(range(SAMPLE_PAIRS + 1), SAMPLE_PAIRS, "draw sample scenes"))
        next(steps)
        write_scenes(root, SAMPLE_PAIRS, progress=lambda *_: next(steps, None))
        for _ in steps:
            pass
    return root
