"""The readers that `fuzz.py` feeds: valid files of each, how they are damaged, and all that evalkit reads of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fuzz_inputs as inputs
from fuzz_inputs import Reader


def images(_: Path) -> Reader:
    from evalkit.data.images import open_image, png_text, read_image
    from evalkit.data.labels import read_mask

    def header(path: Path) -> None:
        with open_image(path) as image:
            image.size  # noqa: B018

    files = [(f"{i}.png", data) for i, data in enumerate(inputs.images())]
    return Reader(files, [inputs.flipped, inputs.png], [read_image, read_mask, png_text, header])


def labels(_: Path) -> Reader:
    from evalkit.data.card import LabelClass
    from evalkit.data.labels import read_boxes

    classes = [LabelClass(id=0, name="person"), LabelClass(id=1, name="car")]
    box = "<object><name>car</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
    voc = f"<annotation><size><width>64</width><height>48</height></size>{box * 2}</annotation>"

    def read(path: Path) -> Any:
        return read_boxes(path, "yolo" if path.suffix == ".txt" else "voc", classes)

    return Reader(
        [("a.txt", b"0 0.5 0.5 0.2 0.2\n1 0.25 0.25 0.1 0.1\n"), ("a.xml", voc.encode())], [inputs.flipped], [read]
    )


def cards(_: Path) -> Reader:
    from importlib import resources

    from evalkit.data.card import read_card

    folder = resources.files("evalkit.data").joinpath("cards")
    files = [("a.yaml", folder.joinpath(name).read_bytes()) for name in ("TNO.yaml", "MSRS.yaml")]
    return Reader(files, [inputs.flipped, inputs.yaml_values], [read_card])


def protocols(_: Path) -> Reader:
    from importlib import resources

    from evalkit.files.read import read_text
    from evalkit.protocols.schema import parse

    folder = resources.files("evalkit.protocols")
    names = ["smfnet-table1.yaml", "vifb.yaml"]
    files = [(name, folder.joinpath(name).read_bytes()) for name in names if folder.joinpath(name).is_file()]
    return Reader(files, [inputs.flipped, inputs.yaml_values], [lambda path: parse(read_text(path), path.name)])


def recipes(_: Path) -> Reader:
    from importlib import resources

    from evalkit.downstream.detection.recipe import detection_recipe
    from evalkit.downstream.segmentation.recipe import read_schedule, schedules
    from evalkit.training.find_recipe import load_recipe

    data = resources.files("evalkit.training").joinpath("recipes", "SMFNet-small.yaml").read_bytes()
    small = json.dumps(schedules()["small"].model_dump(mode="json", exclude_defaults=True)).encode()
    detection = resources.files("evalkit.downstream").joinpath("recipes", "detection-small.yaml").read_bytes()
    calls: list[Callable[[Path], Any]] = [
        lambda path: load_recipe("SMFNet", str(path)).hash,
        lambda path: detection_recipe(str(path), ""),
        read_schedule,
    ]
    return Reader(
        [("a.yaml", data), ("b.yaml", small), ("c.yaml", detection)], [inputs.flipped, inputs.yaml_values], calls
    )


def _run(place: Path) -> Path:
    """A finished run on generated scenes."""
    from evalkit.protocols.run import reproduce

    reproduce("smfnet-table1", sample=True, methods=["average"], out=place / "run", workers=1)
    return place / "run"


def records(place: Path) -> Reader:
    from evalkit.leaderboards.site.entries import read_entries
    from evalkit.leaderboards.verify import verify
    from evalkit.records.record import load

    run = _run(place)
    data = (run / "records" / "samples__average.json").read_bytes()
    scores = run / "scores" / "samples" / "average.csv"

    def entries(path: Path) -> None:
        folder = path.parent / "submitted" / "records"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.json").write_bytes(path.read_bytes())
        for entry in read_entries(folder.parent):
            entry.stem, entry.to_dict()

    verified = partial(verify, scores=scores, fused=run / "fused", data_root=run / "data")
    return Reader([("a.json", data)], [inputs.flipped, inputs.json_values], [load, verified, entries])


def scores(place: Path) -> Reader:
    from evalkit.leaderboards.image_scores import read_scores
    from evalkit.records.per_image import read_per_image
    from evalkit.records.store import ScoreFile

    data = (_run(place) / "scores" / "samples" / "average.csv").read_bytes()
    metrics = data.decode().splitlines()[0].split(",")[2:-1]
    missing = data.replace(b',"', b",", 1).splitlines()[0] + b"\nx,k," + b"," * len(metrics)
    missing += b'"' + json.dumps(dict.fromkeys(metrics, "flat")).replace('"', '""').encode() + b'"\n'
    calls: list[Callable[[Path], Any]] = [
        lambda path: read_per_image(path).hash(),
        lambda path: read_scores(path, "smfnet"),
        lambda path: ScoreFile(path, metrics).read({"scene01": "k", "x": "k"}),
    ]
    return Reader([("a.csv", data), ("b.csv", missing)], [inputs.flipped, inputs.csv_values], calls)


def tables(place: Path) -> Reader:
    from evalkit.protocols.table.export import FORMATS
    from evalkit.protocols.table.table import read_table

    data = (_run(place) / "table.json").read_bytes()

    def export(path: Path) -> None:
        table = read_table(path.parent)
        for _, to_text in FORMATS.values():
            to_text(table).encode(errors="backslashreplace")

    return Reader([("table.json", data)], [inputs.flipped, inputs.json_values], [export])


def published(_: Path) -> Reader:
    from importlib import resources

    from evalkit.leaderboards.audit import audit_rows, read_table_rows
    from evalkit.protocols.table.per_image import published_per_image

    folder = resources.files("evalkit.protocols").joinpath("published")
    text = folder.joinpath("smfnet-table1.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    own = b"pair,method,metric,value\n1,CBF,EN,7.1\n2,CBF,EN,6.9\n"
    calls: list[Callable[[Path], Any]] = [
        lambda path: audit_rows(read_table_rows(path)),
        lambda path: published_per_image(path, {"EN": "EN"}),
    ]
    return Reader([("a.csv", "".join(text[:40]).encode()), ("b.csv", own)], [inputs.flipped, inputs.csv_values], calls)


def golden(_: Path) -> Reader:
    from evalkit.metrics.registry import definitions
    from evalkit.testing.golden import Golden, read_golden, write_golden

    data = write_golden([Golden("a", "SSIM[smfnet]", 0.9, 1e-6), Golden("=b", "EN[tang]", None, 1e-6)]).encode()

    def named(path: Path) -> None:
        definitions([one.metric for one in read_golden(path)], "textbook")

    return Reader([("a.csv", data)], [inputs.flipped, inputs.csv_values], [read_golden, named])


def checkpoints(_: Path) -> Reader:
    from evalkit.downstream.detection.weights import read_weights
    from evalkit.methods.checkpoints import as_state, read_checkpoint
    from evalkit.training.find_recipe import recipes as known
    from evalkit.training.state import read_recipe, read_resume
    from evalkit.training.trained import trained_method

    recipe = known()["SMFNet-small"]

    def fuses(path: Path) -> None:
        method = trained_method(path, "SMFNet")
        if method is not None:
            method.build()

    def resume(path: Path) -> None:
        """As the state of either form."""
        for name in ("resume.pt", "resume.safetensors"):
            run = path.parent / "run"
            run.mkdir(exist_ok=True)
            (run / name).write_bytes(path.read_bytes())
            try:
                read_resume(run, recipe, "y")
            finally:
                (run / name).unlink()

    calls: list[Callable[[Path], Any]] = [
        read_weights,
        read_checkpoint,
        lambda path: as_state(read_checkpoint(path), path),
        read_recipe,
        fuses,
        resume,
    ]
    suffixes = ["pth", "pth", "pth", "pt", "safetensors", "safetensors", "safetensors"]
    files = [(f"{i}.{suffix}", data) for i, (suffix, data) in enumerate(zip(suffixes, inputs.weights(), strict=True))]
    return Reader(files, [inputs.flipped, inputs.container], calls)


READERS: dict[str, Callable[[Path], Reader]] = {
    function.__name__: function
    for function in (images, labels, cards, protocols, recipes, records, scores, tables, published, golden, checkpoints)
}
