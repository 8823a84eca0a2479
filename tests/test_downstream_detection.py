"""Detectors on fused images: data sets, training, AP, resuming, no network and no file outside --out and the cache."""

import json
import os
import pickle
import shutil
import socket
import sys
import tempfile
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import evalkit
from evalkit.cli import main
from evalkit.data.card import load_card
from evalkit.data.images import read_image, write_png
from evalkit.data.pairs import ImagePair, find_pairs
from evalkit.data.samples.samples import write_scenes
from evalkit.downstream import environment
from evalkit.downstream.detection import train as detection
from evalkit.downstream.detection.recipe import detection_recipe, find_weights
from evalkit.downstream.detection.weights import pretrained, read_weights
from evalkit.downstream.splits import PARTS, Division
from evalkit.errors import DataError, EvalkitError, StateWarning
from evalkit.metrics.detection import Boxes, detection_scores
from evalkit.protocols.table.table import read_table
from evalkit.protocols.trial import try_protocol
from evalkit.records.record import load

if reason := environment.missing("detection"):  # not by importing it: that is for the environment to do, quietly
    pytest.skip(f"detection {reason}", allow_module_level=True)

TINY = {
    "name": "tiny", "source": "tests", "network": "YOLOv5n", "model": "yolov5n.yaml", "ratio": "2:1:1", "seeds": [0],
    "size": 64, "epochs": 1, "batch": 8, "optimiser": "AdamW", "lr": 1e-3, "options": {"mosaic": 0, "nbs": 8},
    "split": "random", "scenes": {"count": 16, "width": 96, "height": 72},
}  # fmt: skip
ENVIRONMENT = ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "YOLO_VERBOSE", "YOLO_CONFIG_DIR", "HF_HUB_OFFLINE")


@pytest.fixture(scope="module", autouse=True)
def quiet(tmp_path_factory):
    """The package is imported once per process: its settings lie in the first cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        if "EVALKIT_CACHE" not in os.environ:
            patch.setenv("EVALKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield environment.ultralytics()


@pytest.fixture
def guarded(monkeypatch):
    """Any attempt to reach another machine, or to look its name up, fails the test."""
    attempts = []

    def refuse(*arguments, **_):
        attempts.append(arguments)
        raise AssertionError(f"network access attempted: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return attempts


def recipe_file(folder: Path, **changes) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def files(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A finished sample run of two rows, its output and what it wrote besides --out."""
    base = tmp_path_factory.mktemp("sample")
    here, home, out = base / "here", base / "home", base / "out"
    here.mkdir()
    home.mkdir()
    recipe = recipe_file(base)
    package = Path(environment.ultralytics().__file__).parent
    before = files(package) | files(environment.cache_folder())
    attempts = []

    def refuse(*arguments, **_):
        attempts.append(arguments)
        raise OSError("no network in this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("HOME", str(home))
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket, "create_connection", refuse)
        arguments = ["reproduce", "smfnet-table2", "--sample", "--methods", "average,VISIBLE", "--workers", "1"]
        result = CliRunner().invoke(main, [*arguments, "--recipe", str(recipe), "--out", str(out), "--device", "cpu"])
    strangers = files(here, home) | {p for p in files(package) - before if "__pycache__" not in p.parts}
    return out, recipe, result, attempts, strangers


def trainer():
    from evalkit.downstream.detection import trainer as module

    return module


def run_folder(out: Path, method: str) -> Path:
    return out / "downstream" / "detection" / "samples" / "YOLOv5n tiny" / method


# ---------------------------------------------------------------- a whole run


def test_sample_run_fills_the_table(sample):
    out, _, result, _, _ = sample
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    table = read_table(out)
    assert {cell.method for cell in table.cells} == {"average", "Visible"}
    assert {"person AP50", "bicycle AP50", "car AP50", "mean AP50", "mean (night) AP50"} <= {
        cell.metric for cell in table.cells
    }
    for cell in table.cells:
        assert cell.value is not None or cell.reason.startswith(("no true box", "no AP50", "no test image"))
        assert cell.status in ("unpublished", "missing")
    assert "recipe tiny" in table.note
    for name in ("table.md", "table.html", "table.tex", "table.csv"):
        assert "recipe tiny" in (out / name).read_text()
    assert "recipe tiny: YOLOv5n from scratch, 64 px, 1 epochs of 8 images" in result.output


def test_no_network_is_touched(sample):
    assert sample[3] == []


def test_no_file_outside_out_and_cache(sample):
    assert sample[4] == set()


def test_records_hold_what_the_numbers_depend_on(sample):
    out = sample[0]
    records = [load(path) for path in sorted((out / "records").glob("*.json"))]
    assert {record.method["name"] for record in records} == {"average", "Visible"}
    for record in records:
        assert record.metrics[:4] == ["person AP50[coco]", "bicycle AP50[coco]", "car AP50[coco]", "mean AP50[coco]"]
        assert set(record.scores) | set(record.missing) == {name.removesuffix("[coco]") for name in record.metrics}
        assert record.dataset["parts"] == "8/4/4"
        assert record.images == 4
        assert record.seeds["detector 0"] == 0
        assert record.method["leakage"] == "none: nothing was learned"
        assert set(record.method["per_seed"]) == {"0"} == set(record.method["per_seed_last_epoch"])
        assert record.method["recoloured"] == (record.method["name"] == "average")
    first, second = records
    assert first.dataset["content_hash"] == second.dataset["content_hash"]
    assert first.method["fused_hash"] != second.method["fused_hash"]


def test_differences_to_visible_are_bootstrapped(sample):
    found = json.loads((run_folder(sample[0], "").joinpath("differences.json")).read_text())
    assert found["minus"] == "Visible"
    assert set(found["methods"]) == {"average"}


def test_finished_training_is_not_repeated(sample, monkeypatch):
    out, recipe, _, _, _ = sample
    before = read_table(out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("weights/*")}

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(trainer().Trainer, "train", never)
    arguments = {"sample": True, "methods": ["average", "visible"], "workers": 1, "device": "cpu", "out": out}
    again = evalkit.reproduce("smfnet-table2", recipe=str(recipe), **arguments)
    assert again.cells == before.cells
    assert {path: path.stat().st_mtime_ns for path in out.rglob("weights/*")} == stamps
    # without its mark a finished training is read again, not repeated
    (run_folder(out, "average") / "seed0" / "done.json").unlink()
    assert evalkit.reproduce("smfnet-table2", recipe=str(recipe), **arguments).cells == before.cells


def test_another_recipe_trains_anew(sample, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(sample[0], out, symlinks=True)
    calls = []

    def counted(self):
        calls.append(self.args.lr0)
        raise RuntimeError("stop here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer().Trainer, "train", counted)
        options = {"sample": True, "workers": 1, "recipe": str(recipe_file(tmp_path, lr=5e-3)), "out": out}
        table = evalkit.reproduce("smfnet-table2", methods=["average", "Visible"], **options)
    assert calls == [5e-3, 5e-3]  # a row that cannot be trained is a missing value and does not end the run
    for method in ("average", "Visible"):
        reason = table.cell(table.datasets[0], method, "mean AP50").reason
        assert f"training YOLOv5n on {method}, seed 0 failed: stop here" in reason
    assert not table.measured


def cut_and_go_on(sample, out: Path, recipe: Path, damage=lambda weights: None) -> tuple[list[int], list[str]]:
    """A training that is killed after its second of four epochs, and run again: the epochs that it began with, and
    what was said the second time."""
    arguments = {"sample": True, "methods": ["visible"], "workers": 1, "recipe": str(recipe), "out": out}
    arguments["device"] = "cpu"
    shutil.copytree(sample[0] / "downstream" / "scenes-16-96x72-seed0", out / "downstream" / "scenes-16-96x72-seed0")
    kind = trainer().Trainer
    save, train, began = kind.save_model, kind.train, []

    def killed(self):
        save(self)
        if self.epoch == 1:
            raise RuntimeError("killed")

    def watched(self):
        began.append(0 if self.state is None else self.state["epoch"] + 1)
        train(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "save_model", killed)
        table = evalkit.reproduce("smfnet-table2", **arguments)
    assert "killed" in table.cell(table.datasets[0], "Visible", "mean AP50").reason
    damage(run_folder(out, "Visible") / "seed0" / "weights")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", StateWarning)
        patch.setattr(kind, "train", watched)
        evalkit.reproduce("smfnet-table2", **arguments)
    log = (run_folder(out, "Visible") / "seed0" / "results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log[1:]] == ["1", "2", "3", "4"]
    return began, [str(one.message) for one in told if one.category is StateWarning]


def mosaics(folder: Path) -> Path:
    """Mosaics of remembered images until the last two epochs, a step every three batches of three."""
    return recipe_file(folder, epochs=4, batch=3, options={"mosaic": 1.0, "nbs": 9, "close_mosaic": 2})


@pytest.fixture(scope="module")
def undisturbed(sample, tmp_path_factory):
    base = tmp_path_factory.mktemp("undisturbed")
    arguments = {"sample": True, "methods": ["visible"], "workers": 1, "recipe": str(mosaics(base)), "device": "cpu"}
    evalkit.reproduce("smfnet-table2", out=base / "out", **arguments)
    return run_folder(base / "out", "Visible") / "seed0" / "weights"


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "none": (lambda weights: None, 2, ""),
    "half": (lambda weights: halved(weights / "resume.safetensors"), 1, "goes back to resume-before.safetensors"),
    "both": (lambda weights: [halved(path) for path in weights.glob("resume*")], 0, "starts again"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_cut_training_goes_on(sample, undisturbed, tmp_path, damage):
    """To the weights of an undisturbed one; from the state before where the last one is damaged."""
    do, first, says = DAMAGES[damage]
    began, told = cut_and_go_on(sample, tmp_path / "out", mosaics(tmp_path), do)
    assert began == [first]
    assert bool(told) == bool(says)
    assert says in "".join(told)
    weights = run_folder(tmp_path / "out", "Visible") / "seed0" / "weights"
    assert sorted(path.name for path in weights.iterdir()) == ["best.safetensors", "last.safetensors"]
    for path in weights.iterdir():
        assert path.read_bytes() == (undisturbed / path.name).read_bytes()


class Touch:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


def test_no_pickle_in_a_run_folder_is_opened(sample, tmp_path):
    """ultralytics' own last.pt, as earlier versions left it, and its memory of labels: not even looked into."""
    import torch

    proof = tmp_path / "opened"

    def older(weights: Path) -> None:
        for path in weights.iterdir():
            path.unlink()
        for name in ("last.pt", "best.pt"):
            torch.save({"epoch": 1, "model": Touch(proof)}, weights / name)

    began, told = cut_and_go_on(sample, tmp_path / "out", recipe_file(tmp_path, epochs=4), older)
    assert began == [0]
    assert "older version" in told[0]
    torch.save(Touch(proof), tmp_path / "check.pt")
    torch.load(tmp_path / "check.pt", weights_only=False)
    assert proof.exists()  # only now
    proof.unlink()
    labels = tmp_path / "out" / "train.cache"
    labels.write_bytes(pickle.dumps(Touch(proof)))
    from ultralytics.data import dataset

    with pytest.raises(FileNotFoundError):
        dataset.load_dataset_cache_file(labels)
    assert not proof.exists()


def test_damaged_weights_of_a_finished_training_are_made_again(sample, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(sample[0], out, symlinks=True)
    seed = run_folder(out, "Visible") / "seed0"
    before = (seed / "weights" / "best.safetensors").read_bytes()
    (seed / "done.json").unlink()
    halved(seed / "weights" / "best.safetensors")
    arguments = {"sample": True, "methods": ["average", "visible"], "workers": 1, "device": "cpu", "out": out}
    with pytest.warns(StateWarning, match=r"best\.safetensors is damaged .* starts again"):
        evalkit.reproduce("smfnet-table2", recipe=str(sample[1]), **arguments)
    assert (seed / "weights" / "best.safetensors").read_bytes() == before


def test_published_cells_are_never_compared(tmp_path, guarded):
    """A run on M3FD's own layout: percent as the paper prints them, "other data" with the recipe beside each."""
    root = tmp_path / "data"
    write_scenes(root / "drawn", 16, 0, 96, 72)
    place = root / "M3FD"
    for i, pair in enumerate(find_pairs(load_card("samples"), root / "drawn").pairs):
        for role, name in (("infrared", "ir"), ("visible", "vi")):
            (place / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(getattr(pair, role), place / name / f"{i:05d}.png")
        (place / "labels").mkdir(exist_ok=True)
        shutil.copy(pair.labels["boxes"], place / "labels" / f"{i:05d}.txt")
    table = evalkit.reproduce(
        "s4fusion-table4", root, methods=["Visible"], recipe=str(recipe_file(tmp_path)), workers=1, device="cpu",
        out=tmp_path / "out",
    )  # fmt: skip
    cells = {cell.metric: cell for cell in table.cells}
    assert set(cells) == {f"{name} AP50" for name in ("Car", "People", "Truck", "Lamp", "Motor", "Bus", "mean")}
    assert cells["Lamp AP50"].status == "missing"
    assert "no true box of class lamp" in cells["Lamp AP50"].reason
    assert cells["Car AP50"].status == "other data"
    assert cells["Car AP50"].published
    assert cells["Car AP50"].reason.startswith("recipe tiny: YOLOv5n")
    assert {cell.dataset for cell in table.cells} == {"M3FD · YOLOv5s"}
    record = load(tmp_path / "out" / "records" / "M3FD · YOLOv5s__Visible.json")
    assert cells["Car AP50"].value == pytest.approx(100 * record.scores["car AP50"])
    assert record.dataset["expected"] == 4200
    assert guarded == []


# ---------------------------------------------------------------- numbers


def brute_force_ap(found, true, threshold=0.5):
    """COCO's AP of one class: images -> (scores, corners), images -> corners. Greedy matching, 101 recalls."""
    total, hits = sum(len(t) for t in true.values()), []
    for image, (scores, corners) in found.items():
        free = list(range(len(true[image])))
        for k in sorted(range(len(scores)), key=lambda i: -scores[i])[:100]:
            overlaps = []
            for i in free:
                a, b = corners[k], true[image][i]
                width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
                height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
                area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
                overlaps.append((width * height / (area - width * height), i))
            best = max(overlaps, default=(0.0, None))
            if best[0] >= threshold:
                free.remove(best[1])
            hits.append((scores[k], best[0] >= threshold))
    hits.sort(key=lambda hit: -hit[0])
    right, curve = 0, []
    for n, (_, hit) in enumerate(hits, 1):
        right += hit
        curve.append((right / total, right / n))
    return sum(max((p for r, p in curve if r >= level), default=0.0) for level in np.linspace(0, 1, 101)) / 101


@pytest.fixture(scope="module")
def predicted(sample):
    """The run's own predictions, made useful: a barely trained detector's boxes, and most true boxes moved a little."""
    folder = run_folder(sample[0], "average")
    boxes, sizes = detection.predictions(folder / "seed0", "best")
    truth = detection.truths(folder / "data" / "data.yaml", sizes, 3)
    rng = np.random.default_rng(1)
    found = {}
    for stem, one in boxes.items():
        true = truth[stem]
        kept = rng.random(len(true.classes)) < 0.8
        moved = true.corners[kept] + rng.normal(0, 1.5, (kept.sum(), 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 0.5)
        found[stem] = Boxes(
            np.concatenate([one.corners[:40], moved]),
            np.concatenate([one.classes[:40], true.classes[kept]]),
            np.concatenate([one.scores[:40], np.round(rng.random(kept.sum()), 6)]),
        )
    return found, truth


def test_ap50_is_the_brute_force_one(predicted):
    found, truth = predicted
    scores = detection_scores(found, truth, ["person", "bicycle", "car"])["AP50"]
    for number, name in enumerate(scores):
        one = {s: (b.scores[b.classes == number], b.corners[b.classes == number]) for s, b in found.items()}
        true = {s: b.corners[b.classes == number] for s, b in truth.items()}
        if sum(map(len, true.values())):
            assert scores[name] == pytest.approx(brute_force_ap(one, true), abs=1e-6)
    assert scores["person"] > 0.2


def test_ap50_is_that_of_pycocotools(predicted):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found, truth = predicted
    stems = sorted(truth)

    def entries(boxes, scored):
        rows = []
        for i, stem in enumerate(stems, 1):
            one = boxes[stem]
            for k, (x1, y1, x2, y2) in enumerate(one.corners.tolist()):
                row = {"image_id": i, "category_id": int(one.classes[k]) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                row |= {"id": len(rows) + 1, "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                rows.append(row | ({"score": float(one.scores[k])} if scored else {}))
        return rows

    reference = COCO()
    categories = [{"id": i, "name": str(i)} for i in (1, 2, 3)]
    images = [{"id": i} for i in range(1, len(stems) + 1)]
    reference.dataset = {"images": images, "categories": categories, "annotations": entries(truth, False)}
    reference.createIndex()
    evaluation = COCOeval(reference, reference.loadRes(entries(found, True)), "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, 2]  # recalls x classes, all areas, 100 detections
    scores = detection_scores(found, truth, ["person", "bicycle", "car"])["AP50"]
    for number, value in enumerate(scores.values()):
        if not np.isnan(value):
            assert value == pytest.approx(precision[:, number].mean(), abs=1e-6)


# ---------------------------------------------------------------- the data set


def test_data_set_is_laid_out_for_yolo(tmp_path):
    """VOC boxes of M3FD become YOLO text; images of any format become PNG; the source folder is only read."""
    source = tmp_path / "source"
    source.mkdir()
    pairs, images = {}, {}
    rng = np.random.default_rng(0)
    for stem in "abc":
        pixels = rng.integers(0, 255, (60, 80, 3), np.uint8)
        images[stem] = source / (f"{stem}.png" if stem != "b" else "b.bmp")
        if stem == "b":
            import cv2

            cv2.imwrite(str(images[stem]), pixels[..., ::-1])
        else:
            write_png(images[stem], pixels)
        corners = "<xmin>8</xmin><ymin>12</ymin><xmax>24</xmax><ymax>18</ymax>"
        box = f"<object><name>Lamp</name><bndbox>{corners}</bndbox></object>"
        label = source / f"{stem}.xml"
        label.write_text(f"<a><size><width>80</width><height>60</height></size>{box if stem != 'c' else ''}</a>")
        pairs[stem] = ImagePair(stem, images[stem], images[stem], {"boxes": label})
    before = files(source)
    data = detection.prepare_data(tmp_path / "out", pairs, images, Division(("a",), ("b",), ("c",)), load_card("M3FD"))
    content = yaml.safe_load(data.read_text())
    assert content["names"][3] == "lamp"
    assert (data.parent / "labels/train/a.txt").read_text() == "3 0.200000 0.250000 0.200000 0.100000\n"
    assert (data.parent / "labels/test/c.txt").read_text() == ""
    for part, stem in zip(PARTS, "abc", strict=True):
        assert np.array_equal(read_image(data.parent / "images" / part / f"{stem}.png"), read_image(images[stem]))
    assert files(source) == before


def test_a_damaged_image_is_a_missing_value(sample, tmp_path):
    """ultralytics would leave the image out and train on fewer than the other rows."""
    out = tmp_path / "out"
    scenes = sample[0] / "downstream" / "scenes-16-96x72-seed0"
    shutil.copytree(scenes, out / "downstream" / scenes.name)
    given = tmp_path / "outputs" / "Mine" / "samples"
    shutil.copytree(scenes / "samples" / "vi", given)
    broken = sorted(given.iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:200])
    arguments = {"outputs": tmp_path / "outputs", "methods": ["Mine"], "workers": 1, "device": "cpu", "out": out}
    table = evalkit.reproduce("smfnet-table2", sample=True, recipe=str(sample[1]), **arguments)
    assert all(cell.value is None and broken.name in cell.reason for cell in table.cells)


# ---------------------------------------------------------------- networks and weights


def sizes_and_step(model: str, classes: int) -> int:
    """Parameters of a network that has taken a training step on the CPU."""
    import torch
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    network = DetectionModel(model, nc=classes, verbose=False)
    network.args = get_cfg()
    before = [p.detach().clone() for p in network.parameters()]
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.01)
    batch = {
        "img": torch.rand(2, 3, 64, 64),
        "cls": torch.tensor([[0.0], [classes - 1.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.4, 0.5, 0.3, 0.6]]),
        "batch_idx": torch.tensor([0.0, 1.0]),
    }
    network.train()
    loss = network(batch)[0].sum()
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)
    moved = sum(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert moved > 0.9 * len(before)
    return sum(p.numel() for p in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "millions"),
    [("yolov5n.yaml", 2.65), ("yolov5s.yaml", 9.15), ("yolov5x.yaml", 97.3), ("yolov9c.yaml", 25.6)],
)
def test_networks_build_offline_and_learn(model, millions, guarded):
    """Sizes as ultralytics publishes them for COCO's 80 classes (2.6, 9.1, 97.2 and 25.5 M), here to a tenth."""
    with environment.calm():
        assert sizes_and_step(model, 80) / 1e6 == pytest.approx(millions, abs=0.06)
        assert sizes_and_step(model, 6) / 1e6 < millions
        sizes_and_step(model, 9)
    assert guarded == []


def test_pretrained_weights_are_read_and_used(sample, tmp_path):
    import torch
    from ultralytics.nn.tasks import DetectionModel

    file = tmp_path / "yolov5nu.pt"
    environment.ultralytics().YOLO("yolov5n.yaml").save(file)  # a pickle of the network, as published ones are
    state = read_weights(file)
    with environment.calm():
        network = DetectionModel("yolov5n.yaml", nc=6, verbose=False)
        fitted = pretrained(network, file).state_dict()
        other = DetectionModel("yolov8n.yaml", nc=6, verbose=False)
    same = [name for name in state if state[name].shape == fitted[name].shape]
    assert len(same) > 0.9 * len(state)
    assert all(torch.equal(fitted[name], state[name].float()) for name in same)
    with pytest.raises(DataError, match="is of another network"):
        pretrained(other, file)


def test_weights_of_the_repository_yolov5_are_read_and_used(tmp_path, monkeypatch):
    """yolov5s.pt is a pickle of classes `models.yolo.*` and `models.common.*`, of which there are none here."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    modules = {name: types.ModuleType(name) for name in ("models", "models.yolo", "models.common")}
    made = []

    def renamed(network, module):
        kind = type(network).__name__

        def new(cls, *args):
            made.append(kind)
            return object.__new__(cls)

        if not hasattr(modules[module], kind):
            cls = type(kind, (torch.nn.Module,), {"__module__": module, "__new__": new})
            setattr(modules[module], kind, cls)
        cls = getattr(modules[module], kind)
        network.__class__ = cls

    with environment.calm():
        network = DetectionModel("yolov5n.yaml", nc=80, verbose=False).half()
        own = DetectionModel("yolov5n.yaml", nc=6, verbose=False)
    network.criterion = None
    first = network.model[0].conv.weight.clone()
    widths = [one[0].conv.weight.shape[1] for one in network.model[-1].cv2]
    network.model[-1] = torch.nn.Module()  # the older head: a convolution a scale, three boxes a place
    network.model[-1].m = torch.nn.ModuleList(torch.nn.Conv2d(width, 3 * 85, 1) for width in widths)
    for part in list(network.modules()):
        if type(part).__module__.startswith("ultralytics"):
            renamed(part, "models.yolo" if part is network else "models.common")
    with monkeypatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        torch.save({"epoch": -1, "model": network, "ema": None, "optimizer": None}, tmp_path / "yolov5n.pt")
    made.clear()
    state = read_weights(tmp_path / "yolov5n.pt")
    assert state["model.0.conv.weight"].dtype == torch.float16
    before = own.model[-1].cv3[0][2].weight.clone()
    fitted = pretrained(own, tmp_path / "yolov5n.pt")
    assert made == []
    assert torch.equal(fitted.model[0].conv.weight, first.float())
    assert torch.equal(fitted.model[-1].cv3[0][2].weight, before)  # the head is not among them


def test_hostile_weights_are_refused(tmp_path):
    import torch

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    file = tmp_path / "yolov5xu.pt"
    torch.save({"model": Evil()}, file)
    with pytest.raises(DataError, match=r"could run code when opened \(it names posix\.system\)"):
        read_weights(file)
    assert not (tmp_path / "executed").exists()
    for content in (b"", b"hello", pickle.dumps({"model": 1})):
        file.write_bytes(content)
        with pytest.raises(DataError, match="is damaged or no checkpoint"):
            read_weights(file)


def test_missing_pretrained_weights_are_a_missing_value_with_the_cure(tmp_path):
    recipe = detection_recipe("paper", "smfnet-table2")
    with pytest.raises(DataError, match=r"yolov5xu\.pt or yolov5x\.pt is needed: give --checkpoints DIR"):
        find_weights(recipe, None)
    with pytest.raises(DataError, match=r"yolov5xu\.pt or yolov5x\.pt is not in"):
        find_weights(recipe, tmp_path)


def test_network_sees_no_chatter(sample, capfd):
    package = environment.ultralytics()
    package.YOLO("yolov5n.yaml")
    assert capfd.readouterr() == ("", "")
    assert not any(v for v in package.settings.values() if isinstance(v, bool))


@pytest.mark.slow
def test_trainings_on_a_cluster_give_the_same_numbers(tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"sample": True, "recipe": str(recipe_file(tmp_path)), "methods": ["average", "Visible"]}
    here = evalkit.reproduce("smfnet-table2", out=tmp_path / "here", workers=1, **options)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        there = evalkit.reproduce("smfnet-table2", out=tmp_path / "there", engine="dask", address=address, **options)
    assert there.cells == here.cells
    assert here.measured


def test_batches_are_tried_and_nothing_is_left(tmp_path, monkeypatch, guarded):
    folder, recipe = tmp_path / "temporary", tmp_path / "tiny.yaml"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    recipe.write_text(yaml.safe_dump(TINY | {"weights": "yolov5nu.pt", "epochs": 5}), encoding="utf-8")
    options = {"sample": True, "recipe": str(recipe), "device": "cpu"}
    (trial,) = try_protocol("smfnet-table2", None, 2, **options)
    assert (trial.network, trial.batch, trial.sample, trial.steps) == ("YOLOv5n", 8, "64x64", 5)  # 8 of 16 scenes
    assert len(trial.seconds) == len(trial.losses) == 2
    assert {"total", "box_loss", "cls_loss", "dfl_loss"} <= trial.losses[0].keys()
    assert "random weights in place of yolov5nu.pt" in trial.notes
    assert not list(folder.glob("evalkit*"))  # PyTorch has a folder of its own there
    with pytest.raises(EvalkitError, match="accumulate is not of detectors"):
        try_protocol("smfnet-table2", None, 2, accumulate=2, **options)
