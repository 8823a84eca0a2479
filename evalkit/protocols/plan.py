"""What a run will do: which data sets and rows, from which images, written where."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalkit.data.card import Card, LabelKind, load_card
from evalkit.data.pairs import PairSet, find_pairs, image_files, resolve
from evalkit.data.samples.samples import draw_scenes
from evalkit.engine.base import Engine, Local
from evalkit.errors import DataError, EvalkitError, OutputError, UnknownNameError, in_any_case, spelled
from evalkit.files.names import file_name, look
from evalkit.methods.fuse import Fuser, make_fuser, missing_for
from evalkit.methods.outputs import find_outputs
from evalkit.methods.registry import check_name, method_card, method_cards
from evalkit.protocols.schema import DatasetUse, Protocol

Existing = Literal["reuse", "replace", "fail"]
Source = Literal["outputs", "data set", "checkpoint", "trained", "classical"]
Progress = Callable[[Iterable, int, str], Iterable]
SOURCES = ("Visible", "Infrared")
SAMPLE_PAIRS = 8


@dataclass(frozen=True)
class Settings:
    """What a run was asked for, apart from the protocol."""

    out: Path
    outputs: Path | None = None
    checkpoints: Path | None = None
    device: str = "auto"
    recolour: bool = False
    existing: Existing = "reuse"
    workers: int | None = None
    progress: Progress = lambda items, total, text: items
    train: bool = False  # rows that have no images and no weights
    recipe: str = "small"  # how networks are trained: for fusing, and downstream
    engine: Engine = field(default_factory=Local)
    root: Path | None = None  # the data root
    trained: dict[str, Any] = field(default_factory=dict)  # what this run has trained: row -> recipe and result

    def named(self, text: str) -> str:
        """A reason as records keep it: the run's folders by what they are, not by where they lie."""
        folders = {"OUTPUTS": self.outputs, "CHECKPOINTS": self.checkpoints, "DATA": self.root, "OUT": self.out}
        for name, folder in sorted(folders.items(), key=lambda item: -len(str(item[1]))):
            for path in {folder, folder.absolute()} if folder is not None else ():
                end = r"(?![\w-])" if path.is_absolute() else "(?=/)"  # a folder "data" is not a word of a sentence
                text = re.sub(rf"(?<![\w/.-]){re.escape(str(path))}{end}", name, text)
        return text

    @property
    def recipe_name(self) -> str:
        """The recipe as records name it: a file by its name, without the path."""
        return Path(self.recipe).name if self.recipe.endswith((".yaml", ".yml")) else self.recipe

    def scores_file(self, dataset: str, method: str) -> Path:
        """Where the scores of every image are written."""
        return self.out / "scores" / dataset / f"{file_name(method)}.csv"


@dataclass
class Row:
    """One method on one data set: its fused images by stem, or the reason why there are none."""

    method: str
    filled_from: Source | Literal[""] = ""
    fuser: Fuser | None = None  # where evalkit fuses itself
    fused: dict[str, Path] = field(default_factory=dict)
    not_fused: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    recipe: str = ""  # by which evalkit trained the row's network

    def place_in(self, out: Path, pairs: PairSet, kind: Literal["fused", "maps"] = "fused") -> None:
        """Where evalkit's own fused images, or saliency maps, go, if the row has a network or code.

        Args:
            out: the run's folder.
            pairs: whose stems name the files.
            kind: of the images, which names the folder in `out`.
        """
        if self.fuser is not None:
            folder = out / kind / file_name(self.method) / pairs.dataset
            self.fused = {pair.stem: folder / f"{pair.stem}.png" for pair in pairs.pairs}


@dataclass(frozen=True)
class FoundSet:
    """The pairs of a data set as far as they are there, and why they are not."""

    card: Card
    use: DatasetUse
    pairs: PairSet
    missing: str = ""


def find_set(
    dataset: str, use: DatasetUse, root: Path | None, usable: Callable[[PairSet], PairSet] = lambda pairs: pairs
) -> FoundSet:
    """Look for a data set below the data root.

    Args:
        dataset: the protocol's name of the data set.
        use: the protocol's of this data set.
        root: none where no data root is named.
        usable: leaves the pairs that a task can use; raises EvalkitError where there are none.
    """
    card = load_card(dataset)
    use = use_of(use, card)
    nothing = PairSet(card.name, use.split, Path(), "", ())
    if root is None:
        return FoundSet(card, use, nothing, "no data root is named: give --data-root DIR (or set EVALKIT_DATA)")
    try:
        return FoundSet(card, use, usable(find_pairs(card, root, use.split)))
    except EvalkitError as error:
        return FoundSet(card, use, nothing, str(error).splitlines()[0])


def plan_datasets(
    protocol: Protocol, names: Iterable[str] | None, sample: bool, labels: LabelKind | None = None
) -> dict[str, DatasetUse]:
    """The protocol's data sets, or those named; others, too, that have the labels which the task needs.

    Args:
        protocol: whose data sets are planned.
        names: in any case; None for all of the protocol's.
        sample: the run is on the sample scenes alone.
        labels: of the task, where other data sets that have them may be named, too.

    Raises:
        UnknownNameError: a data set that the protocol does not use.
        EvalkitError: none is named, or one for a run on sample scenes.
    """
    if sample:
        if names is not None:
            raise EvalkitError("--sample runs on the sample scenes alone: leave --datasets out.")
        return {"samples": DatasetUse(pairs=SAMPLE_PAIRS)}
    if names is None:
        return dict(protocol.datasets)
    uses = {}
    for name in names:
        if in_any_case(name, protocol.datasets) is None and (other := _other_labelled(name, labels)):
            uses[other] = DatasetUse()
            continue
        dataset = spelled(f"data set of {protocol.name}", name, protocol.datasets)
        uses[dataset] = protocol.datasets[dataset]
    if not uses:
        raise EvalkitError("no data set is named. Leave --datasets out to measure all of the protocol's.")
    return uses


def _other_labelled(name: str, labels: LabelKind | None) -> str:
    """A data set that the paper does not use but has the labels that the task needs; else nothing."""
    if labels is None:
        return ""
    try:
        card = load_card(name)
    except UnknownNameError:
        return ""
    return card.name if any(labels in layout.labels for layout in card.layouts) else ""


def plan_methods(
    protocol: Protocol,
    names: Iterable[str] | None,
    outputs: Path | None,
    sample_methods: Iterable[str] | None = None,
    sources: bool = False,
) -> list[str]:
    """The protocol's rows, or those named: registered methods and folders of fused images that the user brings.

    Args:
        protocol: whose rows are planned.
        names: in any case; None for all of the protocol's.
        outputs: the user's images; its folders are methods.
        sample_methods: the rows of a run on sample scenes, where none are named: it has none of the paper's to fill.
        sources: whether the source images themselves can be rows.

    Raises:
        UnknownNameError: a method that is neither registered nor a folder in `outputs`.
        EvalkitError: none is named.
    """
    if names is None:
        return list(protocol.methods if sample_methods is None else sample_methods)
    methods = []
    own = [*protocol.methods, *(SOURCES if sources else ())]
    for name in names:
        if method := in_any_case(name, own):
            methods.append(method)
            continue
        try:
            methods.append(method_card(name).name)
        except UnknownNameError:
            if outputs is None or not (outputs / check_name(name)).is_dir():
                raise
            if like := [known for known in (*own, *method_cards()) if look(known) == look(name)]:
                raise EvalkitError(f"{name!a} looks like {like[0]}, but is another name. Rename its folder.") from None
            methods.append(name)
    if not methods:
        raise EvalkitError("no method is named. Leave --methods out to fill the protocol's rows.")
    return list(dict.fromkeys(methods))


def find_row(
    method: str,
    card: Card,
    pairs: PairSet,
    use: DatasetUse,
    outputs: Path | None,
    checkpoints: Path | None,
    ablation: str = "",
) -> Row:
    """Where a method's fused images come from, or why there are none: the user's outputs, the data set's own, weights,
    or classical code. Nothing is read but the names of files; `fused` is empty where evalkit fuses itself.

    Args:
        method: the row's name.
        card: of the data set.
        pairs: those found of it; their stems name the source images' rows.
        use: the protocol's of this data set, which may name a folder of fused images.
        outputs: the user's fused images, OUTPUTS/<method>/<dataset>/<stem>.png.
        checkpoints: the folder with the authors' weights.
        ablation: the variant, where the row is one of the protocol's ablations.
    """
    given = find_outputs(outputs, method, card.name, pairs.split)
    if given:
        return Row(method, "outputs", fused=given)
    if method in SOURCES:  # the rows of downstream tables that use no fusion at all
        return Row(method, "data set", fused={pair.stem: getattr(pair, method.lower()) for pair in pairs.pairs})
    if use.fused and (folder := resolve(pairs.root, use.fused.format(method=method))):
        return Row(method, "data set", fused=image_files(folder, allow_empty=True))
    place = f"{file_name(method)}/{card.name}"
    card_of_method = method_cards().get(method)
    reason = ""
    if card_of_method is not None and not (reason := missing_for(card_of_method, checkpoints)):
        return Row(method, "checkpoint" if card_of_method.checkpoint else "classical")
    reason = reason.removesuffix(": bring its fused images with --outputs")
    if card_of_method is None:
        reason = "no fused images, and evalkit knows no network of this name"
    elif checkpoints is None and card_of_method.weights:
        reason += f" ({card_of_method.weights})"
    if ablation and card_of_method is None:
        reason = "an ablation: no weights of it are published"
    cure = f"give --outputs OUTPUTS with OUTPUTS/{place}/<stem>.png"
    if outputs is not None:
        cure = f"put its fused images in {outputs}/{place}"
    return Row(method, reason=f"{reason}; {'or ' if 'DIR' in reason else ''}{cure}")


def plan_row(method: str, card: Card, pairs: PairSet, use: DatasetUse, settings: Settings, ablation: str = "") -> Row:
    """The row that is ready to be fused and measured, or a missing value with its reason.

    Args:
        method: the row's name.
        card: of the data set.
        pairs: those found of it.
        use: the protocol's of this data set.
        settings: the run's: outputs, checkpoints, device and where evalkit writes.
        ablation: the variant, where the row is one of the protocol's ablations.
    """
    row = find_row(method, card, pairs, use, settings.outputs, settings.checkpoints, ablation)
    if row.reason or row.filled_from in ("outputs", "data set"):
        return row
    try:
        row.fuser = make_fuser(
            method_cards()[method],
            settings.checkpoints,
            device="cpu" if settings.engine.remote else settings.device,
            recolour=settings.recolour,
            elsewhere=settings.device,
        )
    except DataError as error:  # weights that are damaged or of another network
        return Row(method, reason=str(error))
    row.place_in(settings.out, pairs)
    return row


def use_of(use: DatasetUse, card: Card, paper: bool = True) -> DatasetUse:
    """The use with the count of pairs that the data set's card states, where the paper states none.

    Args:
        use: the protocol's of this data set.
        card: of the data set.
        paper: whether the protocol is a paper's; a reader's own benchmark is of the pairs that are there.
    """
    split = use.split or card.default_split
    known = split is None or split in {s.name for s in card.splits}
    return use if use.pairs or not (known and paper) else use.model_copy(update={"pairs": card.expected(split)})


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
    return draw_scenes(out / "data", SAMPLE_PAIRS, progress=progress)
