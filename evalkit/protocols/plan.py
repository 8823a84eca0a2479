"""What a run will do: which data sets and rows, from which images, written where."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalkit.data.card import Card, LabelKind, load_card
from evalkit.data.pairs import DataRoot, PairSet, find_pairs, image_files, resolve, respell
from evalkit.data.samples.samples import draw_scenes
from evalkit.data.stems import PLAIN, suggest
from evalkit.engine.base import Engine, Local
from evalkit.errors import DataError, EvalkitError, OutputError, UnknownNameError, in_any_case, nearest, spelled
from evalkit.files.names import file_name, look
from evalkit.methods.arithmetic import FLOAT32, Arithmetic
from evalkit.methods.fuse import make_fuser, missing_for
from evalkit.methods.fusers import Fuser
from evalkit.methods.layouts import pattern_hint
from evalkit.methods.outputs import find_outputs, methods_of
from evalkit.methods.registry import check_name, method_card, method_cards
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS
from evalkit.metrics.evaluate import AS_STORED, Reading
from evalkit.protocols.schema import Protocol
from evalkit.protocols.selection import Selection
from evalkit.protocols.use import OUTPUTS, DatasetUse, Stated

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
    keep_format: bool = False
    existing: Existing = "reuse"
    workers: int | None = None
    progress: Progress = lambda items, total, text: items
    train: bool = False  # rows that have no images and no weights
    recipe: str = "small"  # how networks are trained: for fusing, and downstream
    engine: Engine = field(default_factory=Local)
    root: DataRoot | None = None  # the data root, or several
    name: str = ""  # how fused images are called below `outputs`, see `evalkit.methods.outputs.parse_name`
    images: Selection | None = None  # which images are measured
    reading: Reading = AS_STORED
    roots: dict[str, Path] = field(default_factory=dict)  # of data sets that lie elsewhere
    accumulate: int = 1  # parts that a batch of a training is computed in
    arithmetic: Arithmetic = FLOAT32  # of networks that fuse
    trained: dict[str, Any] = field(default_factory=dict)  # what this run has trained: row -> recipe and result

    def named(self, text: str) -> str:
        """A reason as records keep it: the run's folders by what they are, not by where they lie."""
        folders = [("OUTPUTS", self.outputs), ("CHECKPOINTS", self.checkpoints), ("OUT", self.out)]
        folders += [("DATA", root) for root in each_root(self.root)]
        for name, folder in sorted([*folders, *self.roots.items()], key=lambda item: -len(str(item[1]))):
            for path in {folder, folder.absolute()} if folder is not None and folder.name else ():
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
    pretrained: dict[str, str] = field(default_factory=dict)  # files that this training began with -> SHA-256
    train: bool = False  # the protocol states that it is to be trained
    named: str = ""  # how its images are called below OUTPUTS, where not <method>/<dataset>/<stem>

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
    card: Card, use: DatasetUse, root: DataRoot | None, usable: Callable[[PairSet], PairSet] = lambda pairs: pairs
) -> FoundSet:
    """Look for a data set below the data root, or where its card says that it lies.

    Args:
        card: of the data set.
        use: the protocol's of this data set.
        root: one or several; none where no data root is named.
        usable: leaves the pairs that a task can use; raises EvalkitError where there are none.
    """
    use = use_of(use, card)
    nothing = PairSet(card.name, use.split, Path(), "", ())
    if root is None and card.root is None:
        return FoundSet(card, use, nothing, "no data root is named: give --data-root DIR (or set EVALKIT_DATA)")
    try:
        return FoundSet(card, use, usable(find_pairs(card, root or Path(), use.split)))
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
    datasets: Iterable[str] = (),
    name: str = "",
) -> list[str]:
    """The rows that are named: the protocol's, registered methods, and folders of fused images that the user brings.
    Where none is named, the protocol's, and, unless it states where its methods come from, every such folder.

    Args:
        protocol: whose rows are planned.
        names: in any case; None where none is named.
        outputs: the user's images; its folders are methods.
        sample_methods: the rows of a run on sample scenes, in place of the protocol's: it has none of those to fill.
        sources: whether the source images themselves can be rows.
        datasets: of the run: a folder without images of one of them is no row that nobody named.
        name: how fused images are called below `outputs`, where not as usual.

    Raises:
        UnknownNameError: a method that is neither registered nor a folder in `outputs`.
        EvalkitError: none is named.
    """
    own = [*protocol.methods, *(SOURCES if sources else ())]
    if protocol.task == "saliency":
        own += [system for system in SALIENCY_SYSTEMS if system not in own]
    folders = methods_of(outputs, datasets, name) if outputs is not None else []
    if names is None:
        rows = list(protocol.methods if sample_methods is None else sample_methods)
        more = [] if protocol.sources else [_row_of(folder, own, rows) for folder in folders]
        if not rows and not more:
            raise EvalkitError(f"{protocol.name} names no methods. Give --outputs DIR with DIR/METHOD/DATASET/*.png.")
        return list(dict.fromkeys([*rows, *more]))
    methods = []
    for asked in names:
        if method := in_any_case(asked, own):
            methods.append(method)
            continue
        try:
            methods.append(method_card(asked).name)
        except UnknownNameError:
            folder = in_any_case(asked, folders)
            if folder is None and nearest(asked, [*own, *folders]):  # of the table, before all other methods
                raise UnknownNameError("method", asked, [*own, *folders]) from None
            if folder is None and (outputs is None or resolve(outputs, check_name(asked)) is None):
                raise
            methods.append(_row_of(folder or asked, own, own))
    if not methods:
        raise EvalkitError("no method is named. Leave --methods out to fill the protocol's rows.")
    return list(dict.fromkeys(methods))


def _row_of(folder: str, own: Iterable[str], known: Iterable[str]) -> str:
    """The method that a folder of fused images is of. Raises EvalkitError where it only looks like one of another."""
    if method := in_any_case(check_name(folder), [*own, *method_cards()]):
        return method
    if like := [method for method in (*known, *method_cards()) if look(method) == look(folder)]:
        raise EvalkitError(f"{folder!a} looks like {like[0]}, but is another name. Rename its folder.")
    return folder


def find_row(
    method: str, card: Card, pairs: PairSet, use: DatasetUse, settings: Settings, protocol: Protocol | None = None
) -> Row:
    """Where a method's fused images come from, or why there are none: where the protocol says, else the user's outputs,
    the data set's own, weights, or classical code. Nothing is read but the names of files; `fused` is empty where
    evalkit fuses itself.

    Args:
        method: the row's name.
        card: of the data set.
        pairs: those found of it; their stems name the source images' rows.
        use: the protocol's of this data set, which may name a folder of fused images.
        settings: the run's: outputs and how they are named, checkpoints.
        protocol: which may state where the method's images come from, or that it is an ablation.
    """
    stated = protocol.stated(method, card.name) if protocol is not None else None
    at_hand = stated is None or stated.kind == OUTPUTS
    if row := row_at_hand(method, card, pairs, settings, stated):
        return row
    if method in SOURCES:  # the rows of downstream tables that use no fusion at all
        return Row(method, "data set", fused={pair.stem: getattr(pair, method.lower()) for pair in pairs.pairs})
    if not stated and use.fused and (folder := resolve(pairs.root, use.fused.format(method=method))):
        return Row(method, "data set", fused=image_files(folder, allow_empty=True))
    row = _own_row(method, card, settings, stated, protocol)
    if row.reason and at_hand and settings.outputs is not None and pairs.pairs:
        hint = pattern_hint(settings.outputs, method, card.name, [pair.stem for pair in pairs.pairs])
        row.reason += f". {hint}" if hint else ""
    return row


def row_at_hand(method: str, card: Card, pairs: PairSet, settings: Settings, stated: Stated | None) -> Row | None:
    """The row of images, or maps, that the user brings; None where there are none, or the protocol does not want them.

    Args:
        method: the row's name.
        card: of the data set.
        pairs: those found of it.
        settings: the run's: outputs and how they are named.
        stated: where the protocol says that the images come from, if it does.

    Raises:
        DataError: two files of one stem.
    """
    if stated is not None and stated.pattern is not None:
        pattern = stated.pattern.fill(method=method, dataset=card.name)
        return _given(method, stated.files(method, card.name), pairs, f"no file is called as {pattern}", "the pattern")
    if stated is not None and stated.kind != OUTPUTS:
        return None
    given = find_outputs(settings.outputs, method, card.name, pairs.split, settings.name)
    if not given:
        return None
    row = _given(method, given, pairs, "", "--name")
    row.named = settings.name
    return row


def _own_row(method: str, card: Card, settings: Settings, stated: Stated | None, protocol: Protocol | None) -> Row:
    """The row that evalkit can fuse itself, or why not and what would fill it."""
    place = f"{file_name(method)}/{card.name}"
    ablation = protocol is not None and bool(protocol.ablations.get(method))
    card_of_method = method_cards().get(protocol.method_of(method) if protocol is not None else method)
    reason = "its fused images are to come from outputs" if stated and stated.kind == OUTPUTS else ""
    if card_of_method is not None and not reason:
        reason = missing_for(card_of_method, settings.checkpoints)
        if not reason and not (stated and stated.kind == "trained"):
            return Row(method, "checkpoint" if card_of_method.checkpoint else "classical")
    reason = reason.removesuffix(": bring its fused images with --outputs")
    if stated and stated.kind == "trained":
        reason = "it is to be trained: `pip install 'evalkit[training]'`, and a network that has a recipe"
        return Row(method, reason=reason, train=True)
    if card_of_method is None:
        reason = (
            reason or "no fused images, and evalkit knows no network of this name (one of a plug-in: --plugin FILE.py)"
        )
    elif settings.checkpoints is None and card_of_method.weights and not stated:
        reason += f" ({card_of_method.weights})"
    if ablation and card_of_method is None:
        reason = "an ablation: no weights of it are published"
    if protocol is not None and method in protocol.retrained:
        reason = "its network was trained anew for this table: the weights of the plain name do not give it"
    cure = f"give --outputs OUTPUTS with OUTPUTS/{place}/<stem>.png"
    if settings.outputs is not None:
        cure = f"put its fused images in {settings.outputs}/{place}"
    return Row(method, reason=f"{reason}; {'or ' if 'DIR' in reason else ''}{cure}")


def _given(method: str, files: dict[str, Path], pairs: PairSet, nothing: str, option: str) -> Row:
    """The row of images at hand, by the pairs' stems whatever the case; or why they are none of this data set."""
    stems = [pair.stem for pair in pairs.pairs]
    fused = respell(files, stems)
    if fused.keys() & set(stems) or (files and not stems):
        return Row(method, "outputs", fused=fused)
    if not files:
        return Row(method, reason=nothing)
    example = next(iter(files.values())).name
    reason = f"none of its {len(files)} files is called as a pair: {example} is there, the first pair is {stems[0]}"
    suggested = suggest([list(files), stems])
    if suggested is not None and suggested[0][1] == PLAIN:
        reason += f"; {suggested[1]} of them look like {suggested[0][0]}: put that into {option}"
    return Row(method, reason=reason)


def plan_row(
    method: str, card: Card, pairs: PairSet, use: DatasetUse, settings: Settings, protocol: Protocol | None = None
) -> Row:
    """The row that is ready to be fused and measured, or a missing value with its reason.

    Args:
        method: the row's name.
        card: of the data set.
        pairs: those found of it.
        use: the protocol's of this data set.
        settings: the run's: outputs, checkpoints, device and where evalkit writes.
        protocol: which may state where the method's images come from, or that it is an ablation.
    """
    try:
        row = find_row(method, card, pairs, use, settings, protocol)
    except DataError as error:  # two files of one stem
        return Row(method, reason=str(error))
    if row.reason or row.filled_from in ("outputs", "data set"):
        return row
    try:
        row.fuser = make_fuser(
            method_cards()[protocol.method_of(method) if protocol is not None else method],
            settings.checkpoints,
            device="cpu" if settings.engine.remote else settings.device,
            recolour=settings.recolour,
            elsewhere=settings.device,
            arithmetic=settings.arithmetic,
            keep_format=settings.keep_format,
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


def each_root(data_root: str | os.PathLike[str] | Iterable[Path] | None) -> tuple[Path, ...]:
    """The folders of one data root or several; none of None."""
    if data_root is None:
        return ()
    return (Path(data_root),) if isinstance(data_root, str | os.PathLike) else tuple(map(Path, data_root))


def place_data(
    protocol: Protocol, data_root: str | os.PathLike[str] | Iterable[Path] | None
) -> tuple[Protocol, DataRoot | None]:
    """The protocol with its own data sets where they are, and the data root; none where none is named.

    Args:
        protocol: which may name a data root.
        data_root: goes before that, and EVALKIT_DATA after.

    Raises:
        DataError: a folder that is named does not exist.
    """
    named = data_root or protocol.place("data_root")
    root = find_data_root(named or None, sample=True) if named or os.environ.get("EVALKIT_DATA") else None
    return protocol.below(each_root(root)), root


def find_data_root(data_root: str | os.PathLike[str] | Iterable[Path] | None, sample: bool = False) -> DataRoot:
    """The data root as named, or several; or EVALKIT_DATA, which divides several as PATH does.

    Args:
        data_root: one or several; that of EVALKIT_DATA when None.
        sample: whether generated scenes would do, too.

    Raises:
        DataError: none is named, or one is not a folder.
    """
    if data_root is None:
        data_root = [Path(root).expanduser() for root in os.environ.get("EVALKIT_DATA", "").split(os.pathsep) if root]
    roots = each_root(data_root)
    cure = "Give --data-root DIR (or set EVALKIT_DATA) with the data sets in it"
    cure += ", or --sample for generated scenes." if sample else "."
    if not roots:
        raise DataError(f"no data root is named. {cure}")
    for root in roots:
        if not root.is_dir():
            raise DataError(f"the data root {root} is not a folder. {cure}")
    return roots[0] if len(roots) == 1 else roots


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
