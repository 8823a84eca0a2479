"""A benchmark file from folders: their data sets and methods, as far as the names of files tell them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from evalkit.data.discover import Candidate, Discovery, Unclear, discover
from evalkit.data.words import LABELS, tokens
from evalkit.errors import DataError, EvalkitError
from evalkit.files.names import printable
from evalkit.methods.layouts import Layouts, Naming, Target, find_layouts, target_of
from evalkit.methods.registry import method_cards
from evalkit.metrics.registry import convention as find_convention
from evalkit.metrics.registry import definitions
from evalkit.protocols.schema import PROTOCOLS, parse
from evalkit.protocols.tasks import SAMPLE_METHODS
from evalkit.protocols.use import DatasetUse

METRICS = ("EN", "SD", "SF", "MI", "VIF", "Qabf", "AG", "SSIM")
_PLAIN = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Draft:
    """A benchmark file that is not written yet.

    Attributes:
        text: of the file.
        discovery: the data sets.
        layouts: the methods; None where no folder of fused images was named.
        measured: the data sets that the file takes.
        unmeasured: (data set, why) of those that stand in it as comments.
        weights: methods whose weights lie in the folder of checkpoints.
        open: sentences about what was left open.
    """

    text: str
    discovery: Discovery
    layouts: Layouts | None
    measured: tuple[Candidate, ...]
    unmeasured: tuple[tuple[Candidate, str], ...]
    weights: tuple[str, ...]
    open: tuple[str, ...]


def draft_benchmark(
    file: Path,
    data: Path,
    outputs: Path | None = None,
    checkpoints: Path | None = None,
    convention: str = "smfnet",
    metrics: Sequence[str] | None = None,
) -> Draft:
    """Look at folders and say in a benchmark file what they hold. Names of files alone are read; nothing is written.

    Args:
        file: where the file is to lie: its paths are relative to its folder, its name is the benchmark's.
        data: the folder of the data sets.
        outputs: of fused images; None for evalkit's own methods alone.
        checkpoints: of the authors' weights.
        convention: of the metrics that do not name their own.
        metrics: None for those of most papers.

    Raises:
        DataError: a folder that is not there, or no pairs in `data`.
        EvalkitError: a name that the file cannot have; an unknown metric or convention.
    """
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise EvalkitError(f"{file} must end in .yaml: a benchmark is a YAML file.")
    if file.stem in PROTOCOLS:
        raise EvalkitError(f"{file.stem} is a protocol that evalkit has. Give the file another name.")
    columns = list(metrics) if metrics else _usual(convention)
    definitions(columns, convention)
    real_data, real_outputs = os.path.realpath(data), os.path.realpath(outputs) if outputs is not None else ""
    discovery = discover(data, {real_outputs} - {real_data})
    if real_outputs == real_data and discovery.taken:  # what is no data set there is of methods
        discovery = replace(discovery, unclear=(), left=())
    if not discovery.taken and not discovery.unclear:
        raise DataError(
            f"{data} holds no data set: no known layout (`evalkit list datasets`), and no images whose names pair "
            "after a prefix, a suffix or zeros in front. Name another folder with --data."
        )
    discovery = _usable(discovery, file.parent)
    layouts = None
    if outputs is not None:
        skip = set(discovery.folders) | ({real_data} - {real_outputs})
        layouts = find_layouts(outputs, _targets(discovery), skip)
        padded = _padded(discovery, layouts)
        if padded != discovery:
            discovery, layouts = padded, find_layouts(outputs, _targets(padded), skip)
    weights = _weights(checkpoints, layouts)
    fused = {dataset for _, dataset in layouts.taken} if layouts else set()
    measured = tuple(one for one in discovery.taken if one.name in fused or not fused)
    unmeasured = [(one, "no fused images of it") for one in discovery.taken if one not in measured]
    unmeasured += [(one, "for training or validation") for one in discovery.aside]
    draft = Draft("", discovery, layouts, measured, tuple(unmeasured), weights, tuple(_open(discovery, layouts)))
    text = _Writer(file, data, outputs, checkpoints, draft).text(convention, columns)
    parse(text, file.name)
    return replace(draft, text=text)


def _usual(convention: str) -> list[str]:
    known = find_convention(convention).definitions
    return [metric for metric in METRICS if metric in known] or list(known)


def _usable(discovery: Discovery, beside: Path) -> Discovery:
    """The data sets without those whose folders or names no benchmark file can say."""
    unclear = list(discovery.unclear)
    for one in discovery.taken:
        try:
            if one.card is None:
                DatasetUse(infrared=one.infrared, visible=one.visible).card(one.name, beside)
        except EvalkitError as error:
            unclear.append(Unclear(f"{one.name} ({one.example[0]}): {error} Rename the folder.", ()))
            discovery = replace(discovery, taken=tuple(other for other in discovery.taken if other != one))
    return replace(discovery, unclear=tuple(unclear))


def _targets(discovery: Discovery) -> dict[str, Target]:
    """What to find fused images of: also of data sets that are not taken yet."""
    readings = [*discovery.taken, *(one for some in discovery.unclear for one in some.readings)]
    targets: dict[str, Target] = {}
    for one in readings:
        stems = one.stems | (targets[one.name].stems if one.name in targets else frozenset())
        if one.card is not None:
            targets[one.name] = target_of(one.card, stems, one.split or one.card.default_split)
        else:
            targets[one.name] = Target(stems, tuple(name for name in one.root.split("/")[-1:] if name != "."))
    return targets


def _padded(discovery: Discovery, layouts: Layouts) -> Discovery:
    """The data sets, with {stem:02} for stems such as 01 where fused images are called 1."""
    renumbered = {one.dataset for some in layouts.undecided for one in some.readings if one.renumbered}

    def padded(one: Candidate) -> Candidate:
        width = {len(stem) for stem in one.stems}
        whole = all(stem.isascii() and stem.isdecimal() for stem in one.stems)
        patterns = one.infrared, one.visible
        if one.card or one.name not in renumbered or not whole or len(width) > 1 or "{stem:" in "".join(patterns):
            return one
        infrared, visible = (text.replace("{stem}", f"{{stem:0{min(width)}}}") for text in patterns)
        stems = frozenset(stem.lstrip("0") or "0" for stem in one.stems)
        alone = tuple(stem.lstrip("0") or "0" for stem in one.alone)
        return replace(one, infrared=infrared, visible=visible, stems=stems, alone=alone)

    return replace(discovery, taken=tuple(map(padded, discovery.taken)))


def _weights(checkpoints: Path | None, layouts: Layouts | None) -> tuple[str, ...]:
    """The methods without images here whose weights lie in the folder."""
    if checkpoints is None:
        return ()
    if not checkpoints.is_dir():
        raise DataError(f"the checkpoints folder {checkpoints} does not exist. It holds the authors' weight files.")
    there = {name.casefold() for name in layouts.methods} if layouts else set()
    return tuple(
        card.name
        for card in method_cards().values()
        if card.checkpoint and card.name.casefold() not in there
        if all((checkpoints / name).exists() for name in card.checkpoint)
    )


def _open(discovery: Discovery, layouts: Layouts | None) -> list[str]:
    """What was left open, in sentences."""
    sentences = [some.text for some in discovery.unclear]
    sentences += [
        f"DATA/{folder}: {_images(names)} not understood."
        for folder, names in discovery.left
        if not LABELS & {word for part in folder.split("/") for word in tokens(part)}
    ]
    sentences += [f"DATA: {note}" for note in discovery.notes]
    if layouts is not None:
        sentences += [some.text for some in layouts.undecided]
        sentences += [
            f"OUTPUTS/{folder}: {_images(names)} not understood{f': {reason}' if reason else ''}."
            for folder, (names, reason) in layouts.left.items()
        ]
        sentences += [f"OUTPUTS: {note}" for note in layouts.notes]
        if not layouts.taken:
            sentences.append("OUTPUTS: no fused images were understood.")
    return [sentence.replace("/.:", ":") for sentence in sentences]


def _images(names: Sequence[str]) -> str:
    shown = ", ".join(names[:2])
    return f"{len(names)} image{'' if len(names) == 1 else 's'} ({shown}{', ...' if len(names) > 2 else ''})"


class _Writer:
    """Writes the file; paths are relative to its folder."""

    def __init__(self, file: Path, data: Path, outputs: Path | None, checkpoints: Path | None, draft: Draft) -> None:
        self.name, self.beside = file.name, os.path.abspath(file.parent)
        self.folders = {"data_root": data, "outputs": outputs, "checkpoints": checkpoints}
        self.draft = draft

    def text(self, convention: str, metrics: Sequence[str]) -> str:
        lines = [
            "# A benchmark, as `evalkit init` understood the folders. Paths are relative to this file.",
            f"# Run it: evalkit reproduce {_comment(self.name)}",
            f"title: {_scalar(os.path.splitext(self.name)[0])}",
            f"convention: {_scalar(convention)}  # of every metric that names none, as in SSIM[tang]",
            f"metrics: {_flow(list(metrics))}",
            *(f"{field}: {_scalar(self.path(place))}" for field, place in self.folders.items() if place is not None),
            "",
            *self.datasets(),
            "",
            *self.methods(),
        ]
        return "\n".join(lines) + "\n"

    def path(self, folder: Path | None, below: str = "") -> str:
        """A path as the file has it; one that begins with ~ would be somebody's home."""
        text = os.path.normpath(os.path.relpath(os.path.join(folder or Path(), below), self.beside)).replace(
            os.sep, "/"
        )
        return f"./{text}" if text.startswith("~") else text

    def datasets(self) -> list[str]:
        measured = self.draft.measured
        lines = ["datasets:" if measured else "datasets: {}  # none was taken: put one of these in place of {}"]
        for one in measured:
            lines.append(f"  {self.dataset(one)}  # {_pairs(one)}: {_comment(' and '.join(one.example))}")
        for one, why in self.draft.unmeasured:
            lines.append(f"  # {self.dataset(one)}  # {_pairs(one)}, {why}")
        for some in self.draft.discovery.unclear:
            lines.append(f"  # {_comment(some.text)}")
            for one in some.readings:
                lines.append(f"  # {self.dataset(one)}  # {_pairs(one)}: {_comment(' and '.join(one.example))}")
        return lines

    def dataset(self, one: Candidate) -> str:
        if one.card is not None:
            return f"{_scalar(one.name)}: {_flow({'split': one.split} if one.split else {})}"
        fields = {
            "infrared": one.infrared,
            "visible": one.visible,
            "root": self.path(self.folders["data_root"], one.root),
        }
        return f"{_scalar(one.name)}: {_flow(fields)}"

    def methods(self) -> list[str]:
        layouts = self.draft.layouts
        own = [card.name for card in method_cards().values() if card.kind == "classical" and not card.checkpoint]
        if layouts is None:
            rows = [f"  {_scalar(name)}:  # evalkit's own code" for name in SAMPLE_METHODS]
            rest = [name for name in own if name not in SAMPLE_METHODS]
        else:
            rows = [line for method in layouts.methods for line in self.method(method, layouts)]
            rest = [name for name in own if name not in layouts.methods]
        active = any(not line.startswith("  #") for line in rows)
        lines = ["methods:" if active else "methods: {}  # none was taken: put one of these in place of {}", *rows]
        for some in layouts.undecided if layouts is not None else ():
            lines.append(f"  # {_comment(some.text)}")
            for one in some.readings:
                if not one.renumbered:
                    value = _flow({one.dataset: self.pattern(one)})
                    lines.append(f"  # {_scalar(one.method)}: {value}  # {_comment(one.example)}")
        if weights := self.draft.weights:
            lines.append(
                f"  # with the weights in checkpoints, such as `{weights[0]}: checkpoint`: {', '.join(weights)}"
            )
        lines.append(f"  # evalkit's own code, such as `{rest[0]}:`: {', '.join(rest)}")
        return lines

    def method(self, method: str, layouts: Layouts) -> list[str]:
        datasets = [one.name for one in self.draft.measured]
        namings = {one.dataset: one for (name, _), one in layouts.taken.items() if name == method}
        counts = ", ".join(f"{_comment(dataset)} {len(one.files)}" for dataset, one in namings.items())
        patterns = {dataset: self.pattern(one) for dataset, one in namings.items() if not one.plain}
        one = next(iter(patterns.values()), "")
        taken = [dataset for dataset in namings if dataset in datasets]
        if not patterns:
            lines = [f"  {_scalar(method)}: outputs  # images: {counts}"]
        elif (
            {*patterns.values()} == {one}
            and patterns.keys() == namings.keys()
            and ("{dataset}" in one or taken == [*datasets])
        ):
            lines = [f"  {_scalar(method)}: {_scalar(one)}  # images: {counts}"]
        else:
            lines = [f"  {_scalar(method)}:"]
            for dataset, naming in namings.items():
                place = f"{'' if dataset in taken else '# '}{_scalar(dataset)}"
                lines.append(f"    {place}: {_scalar(patterns.get(dataset, 'outputs'))}  # images: {len(naming.files)}")
        return lines if taken else [f"  # {line}" for line in lines]

    def pattern(self, one: Naming) -> str:
        """The pattern from the file's folder. Raises EvalkitError."""
        folder = self.path(self.folders["outputs"])
        if re.search(r"[{}*\\]", folder):
            raise EvalkitError(
                f"the way from the file to {self.folders['outputs']} holds {{, }}, * or \\, which mean something else "
                "in patterns. Write the file into that folder."
            )
        return f"{folder}/{one.pattern}" if folder != "." else one.pattern


def _pairs(one: Candidate) -> str:
    return f"{len(one.stems)} pair{'' if len(one.stems) == 1 else 's'}"


def _comment(text: str) -> str:
    """A text that ends where its line ends, of characters that YAML may hold."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in printable(text))


def _scalar(text: str) -> str:
    """A text as YAML reads it again, on one line."""
    if _PLAIN.fullmatch(text) and isinstance(yaml.safe_load(text), str):
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**6).strip()


def _flow(value: Any) -> str:
    """A list or mapping of texts on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_scalar(text)}" for key, text in value.items()) + "}"
    return "[" + ", ".join(_scalar(text) for text in value) + "]"
