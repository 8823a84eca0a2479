"""The images of a run that a qualitative grid shows, read from its folder and its data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.data.card import load_card
from evalkit.data.images import read_image
from evalkit.data.pairs import DataRoot, ImagePair, PairSet, find_pairs, image_files
from evalkit.errors import DataError, EvalkitError, UnknownNameError
from evalkit.leaderboards.plots.grid import GridScene
from evalkit.leaderboards.plots.zoom import choose_boxes, parse_boxes, place_box
from evalkit.leaderboards.rank import chosen_names
from evalkit.protocols.plan import Settings, file_name, find_data_root, find_outputs_root, find_row
from evalkit.protocols.schema import Protocol, protocol_of_run
from evalkit.protocols.table.table import Table, read_table
from evalkit.protocols.use import DatasetUse
from evalkit.records.record import load

DRAWN = 2  # scenes when none is named
NONE = "none"


def load_scenes(
    run: Path,
    dataset: str | None = None,
    methods: Iterable[str] | None = None,
    stems: Sequence[str] | None = None,
    boxes: Sequence[str] = (),
    data_root: DataRoot | None = None,
    outputs: Path | None = None,
) -> tuple[list[GridScene], dict[str, str]]:
    """Infrared, visible and fused images of each scene, with its boxes; and the methods that lack one, with reasons.

    Args:
        run: folder that `reproduce` wrote.
        dataset: block of the run; its only one when None.
        methods: rows; all when None.
        stems: the scenes; the first two when None.
        boxes: as `parse_boxes` reads them; where a scene has none, chosen where methods differ most
            (`zoom.choose_boxes`); none at all for `["none"]`.
        data_root: folder of the data sets; that of EVALKIT_DATA when None.
        outputs: folder of fused images that are not in RUN/fused; the data set's own folder when None.

    Raises:
        DataError: no run, no data set, an unreadable image, images of one scene that differ in size.
        UnknownNameError: an unknown data set, method or scene, with the nearest names.
        EvalkitError: several data sets and none is named; a box that cannot be understood.
    """
    table = read_table(run)
    pairs, use, protocol = pairs_of_run(table, run, dataset, data_root)
    names = chosen_names("method", methods, table.methods(_block(table, pairs.dataset)))
    by_stem = {pair.stem: pair for pair in pairs.pairs}
    for stem in stems or []:
        if stem not in by_stem:
            raise UnknownNameError(f"scene of {pairs.dataset}", stem, by_stem)
    drawn = [by_stem[stem] for stem in dict.fromkeys(stems or list(by_stem)[:DRAWN])]
    written = {} if list(boxes) == [NONE] else parse_boxes(boxes, [pair.stem for pair in drawn])
    folders = {method: fused_of_run(method, run, pairs, use, protocol, find_outputs_root(outputs)) for method in names}
    missing: dict[str, str] = {}
    scenes = []
    for pair in drawn:
        images = _images(pair, folders, missing)
        fused = [image for name, image in images.items() if name in folders and image is not None]
        scene = GridScene(pair.stem, images)
        height, width = scene.size
        placed = [place_box(numbers, width, height) for numbers in written.get(pair.stem, [])]
        if list(boxes) != [NONE] and not placed:
            placed = choose_boxes(fused)
        scenes.append(GridScene(pair.stem, images, placed))
    if len(missing) == len(names) and all(scene.images[m] is None for scene in scenes for m in names):
        raise DataError("nothing to draw: " + "; ".join(f"{method}: {why}" for method, why in missing.items()) + ".")
    return scenes, missing


def _block(table: Table, dataset: str) -> str:
    return next(block for block in table.datasets if table.blocks.get(block, [block])[0] == dataset)


def pairs_of_run(
    table: Table, run: Path, dataset: str | None, data_root: DataRoot | None
) -> tuple[PairSet, DatasetUse, Protocol | None]:
    """The pairs of one data set of a run, its protocol (None of a sample run), and what that says of their use.

    Args:
        table: of the run.
        run: its folder.
        dataset: the data set; the run's only one when None.
        data_root: folder of the data sets; that of the protocol or of EVALKIT_DATA when None.

    Raises:
        DataError: no data root, or the data set is not in it.
        UnknownNameError: an unknown data set.
        EvalkitError: several data sets and none is named.
    """
    known = list(dict.fromkeys(table.blocks.get(block, [block])[0] for block in table.datasets))
    if dataset is None and len(known) > 1:
        raise EvalkitError(f"{run} holds {', '.join(known)}. Name the one to draw with --datasets.")
    (name,) = chosen_names("data set", None if dataset is None else [dataset], known)
    if table.sample:
        return find_pairs(load_card("samples"), run / "data"), DatasetUse(), None
    protocol = protocol_of_run(table.protocol, run)
    use, card = protocol.datasets.get(name, DatasetUse()), protocol.card(name)
    root = card.root or find_data_root(data_root or protocol.place("data_root"))
    return find_pairs(card, root, use.split), use, protocol


def fused_of_run(
    method: str,
    run: Path,
    pairs: PairSet,
    use: DatasetUse,
    protocol: Protocol | None,
    outputs: Path | None,
    kind: Literal["fused", "maps"] = "fused",
) -> dict[str, Path] | str:
    """Images of a method by stem, or why there are none: of the run, of `outputs`, or the data set's own.

    Args:
        method: the row's name.
        run: folder that `reproduce` wrote.
        pairs: of the data set.
        use: the protocol's of this data set, which may name a folder of fused images.
        protocol: of the run; None of a sample run.
        outputs: the user's fused images; those of the protocol when None.
        kind: of the images: fused, or saliency maps.

    Raises:
        DataError: two files have one stem.
    """
    folder = run / kind / file_name(method) / pairs.dataset
    if folder.is_dir():
        return image_files(folder, allow_empty=True)
    card = protocol.card(pairs.dataset) if protocol is not None else load_card(pairs.dataset)
    if outputs is None and protocol is not None:
        outputs = protocol.place("outputs")
    settings = Settings(run, outputs, name=_named(run, pairs.dataset, method))
    row = find_row(method, card, pairs, use, settings, protocol)
    noun = "saliency maps" if kind == "maps" else "fused images"
    return row.fused or f"no {noun} in {run.name}; where they lie elsewhere, give --outputs"


def _named(run: Path, dataset: str, method: str) -> str:
    """How the run found the method's images called below OUTPUTS."""
    try:
        return str(load(run / "records" / f"{dataset}__{file_name(method)}.json").method.get("named", ""))
    except DataError:
        return ""


def _images(
    pair: ImagePair, folders: dict[str, dict[str, Path] | str], missing: dict[str, str]
) -> dict[str, NDArray[np.uint8] | None]:
    images: dict[str, NDArray[np.uint8] | None] = {
        "Infrared": read_image(pair.infrared),
        "Visible": read_image(pair.visible),
    }
    for method, files in folders.items():
        if method in images:
            continue
        path = files.get(pair.stem) if isinstance(files, dict) else None
        if path is None:
            missing.setdefault(method, files if isinstance(files, str) else f"no fused image of {pair.stem}")
        images[method] = None if path is None else read_image(path)
    return images
