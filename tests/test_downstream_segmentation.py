"""Segmentation networks trained on fused images: numbers, parts, what is written and what is not fetched."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import socket
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml

from evalkit.data.images import read_image
from evalkit.data.labels import read_mask
from evalkit.data.samples.samples import write_scenes
from evalkit.errors import DataError, EvalkitError, StateWarning, UnknownNameError

torch = pytest.importorskip("torch")

from evalkit.downstream.segmentation import table as segmentation_table  # noqa: E402
from evalkit.downstream.segmentation.history import read_counts, write_counts  # noqa: E402
from evalkit.downstream.segmentation.networks import SEGMENTERS, segmenter  # noqa: E402
from evalkit.downstream.segmentation.recipe import SegmentationSchedule, read_schedule, schedules  # noqa: E402
from evalkit.downstream.segmentation.run import SegmentationResult, Variant, mean_iou_of  # noqa: E402
from evalkit.downstream.segmentation.systems.mfnet import SYSTEMS as MFNET  # noqa: E402
from evalkit.downstream.segmentation.train import LabelledImage, Training, channel_statistics, train_segmenter  # noqa: E402
from evalkit.methods.checkpoints import read_checkpoint  # noqa: E402
from evalkit.methods.states import read_state, to_state  # noqa: E402
from evalkit.metrics.segmentation import segmentation_scores  # noqa: E402
from evalkit.protocols.plan import Settings  # noqa: E402
from evalkit.protocols.run import reproduce  # noqa: E402
from evalkit.protocols.schema import protocol, rows_of  # noqa: E402
from evalkit.protocols.tasks import Job  # noqa: E402
from evalkit.protocols.trial import try_protocol  # noqa: E402

NAMES = ("background", "car", "person", "bike", "curve", "car stop", "guardrail", "color cone", "bump")
TINY = {
    "size": [96, 64],
    "crop": [64, 64],
    "batch": 2,
    "iterations": 2,
    "every": 1,
    "warm_up": 0,
    "seeds": 2,
    "lists": "4:2:2",
    "scenes": {"count": 16, "seed": 3, "width": 96, "height": 64},
}
needs_mmseg = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mmseg", "mmengine", "mmcv")),
    reason="needs evalkit[segmentation]",
)


@pytest.fixture(autouse=True)
def _confined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and a cache of the test's own, and no way out."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError(f"the network was asked for: {args[:2]}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 8, 3, 96, 64)


def scene(root: Path, stem: str, two_streams: bool = False) -> LabelledImage:
    infrared = root / "ir" / f"{stem}.png" if two_streams else None
    return LabelledImage(stem, root / "vi" / f"{stem}.png", root / "Segmentation_labels" / f"{stem}.png", infrared)


def tiny_training(root: Path, out: Path, network: str, **changes: object) -> Training:
    schedule = SegmentationSchedule.model_validate(
        schedules()["small"].model_dump(exclude_defaults=True) | TINY | changes
    ).model_copy(update={"network": network})
    stems = sorted(path.stem for path in (root / "vi").iterdir())
    two = segmenter(network).streams == 2
    listed = [scene(root, stem, two) for stem in stems]
    return Training(schedule, {"train": listed[:4], "val": listed[4:6], "test": listed[6:]}, NAMES, out, 1, "key")


# --- numbers ----------------------------------------------------------------------------------------------------------


def brute_force_iou(predictions: list[np.ndarray], truths: list[np.ndarray]) -> list[float]:
    """By sets of pixels, class for class, over all images at once; without any confusion matrix."""
    predicted, true = (np.concatenate([image.ravel() for image in images]) for images in (predictions, truths))
    known = true != 255
    found = []
    for class_ in range(9):
        a, b = (predicted == class_) & known, true == class_
        found.append(np.count_nonzero(a & b) / np.count_nonzero(a | b))
    return found


@needs_mmseg
@pytest.mark.slow
def test_scores_are_those_of_the_networks_own_predictions(scenes: Path, tmp_path: Path) -> None:
    """Weights and images as written, predicted here without the Runner: the same IoU to 1e-6."""
    training = tiny_training(scenes, tmp_path / "out", "MFNet", iterations=3)
    trained = train_segmenter(training)
    network = MFNET["MFNet"].build(9).eval()
    state = read_checkpoint(tmp_path / "out" / "best.safetensors")
    network.load_state_dict({k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")})
    predictions, truths = [], []
    for one in training.scenes["test"]:
        pixels = np.dstack([read_image(one.image), read_image(one.infrared)]).astype(np.float32)
        with torch.inference_mode():
            logits = network(torch.from_numpy(pixels.transpose(2, 0, 1))[None] / 255)
        predictions.append(logits[0].argmax(0).numpy())
        truths.append(read_mask(one.label))
    expected = brute_force_iou(predictions, truths)
    scores = segmentation_scores(sum(trained.counts.values()), NAMES)
    assert list(scores["IoU"].values()) == pytest.approx(expected, abs=1e-6)
    assert scores["mIoU"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert len(set(expected)) > 2  # nine equal numbers would prove nothing


def test_miou_of_a_draw_is_that_of_its_summed_matrix() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, (2, 6, 9, 9))
    draw = np.array([0, 0, 5, 2, 2, 2])
    expected = np.mean([segmentation_scores(seed[draw].sum(axis=0))["mIoU"] for seed in counts])
    assert mean_iou_of(counts, draw) == pytest.approx(expected, abs=1e-12)
    counts[:, :, 3, :] = 0  # a class that no image shows, predicted or not, does not count
    for _ in range(2):
        ious = [segmentation_scores(seed[draw].sum(axis=0))["IoU"] for seed in counts]
        expected = np.mean([value for one in ious for name, value in one.items() if name != "3"])
        assert mean_iou_of(counts, draw) == pytest.approx(expected, abs=1e-12)
        counts[:, :, :, 3] = 0


def test_counts_survive_the_file(tmp_path: Path) -> None:
    counts = {
        stem: np.random.default_rng(i).integers(0, 10**6, (9, 9)) for i, stem in enumerate(["b", "a,b", "00012N"])
    }
    counts = {stem: matrix for stem, matrix in counts.items() if "," not in stem}
    write_counts(tmp_path / "counts.csv", counts)
    found = read_counts(tmp_path / "counts.csv")
    assert list(found) == ["00012N", "b"]
    assert all((found[stem] == counts[stem]).all() for stem in counts)


@needs_mmseg
def test_channel_statistics_are_over_all_pixels(scenes: Path) -> None:
    chosen = [scene(scenes, stem, two_streams=True) for stem in ("000_day", "001_night")]
    mean, std = channel_statistics(chosen)
    pixels = np.concatenate(
        [np.dstack([read_image(s.image), read_image(s.infrared)]).reshape(-1, 4) for s in chosen]  # type: ignore[arg-type]
    ).astype(float)
    assert mean == pytest.approx(pixels.mean(axis=0), abs=1e-3)
    assert std == pytest.approx(pixels.std(axis=0), abs=1e-3)


# --- networks ---------------------------------------------------------------------------------------------------------


# millions: SegNeXt and SegFormer as their papers print them (with 150 classes), MFNet as RTFNet's paper does;
# DeepLabV3+ 62.7 with its auxiliary head, BiSeNetV1 13.3 without its two
PUBLISHED = {
    "SegNeXt-T": (4.3, True), "SegNeXt-B": (27.6, True), "SegNeXt-L": (48.9, True), "SegFormer-B0": (3.8, True),
    "SegFormer-B2": (27.5, True), "SegFormer-B4": (64.1, True), "DeepLabV3+-R101": (62.7, True),
    "BiSeNetV1-R18": (13.3, False),
}  # fmt: skip


def parameters(model: torch.nn.Module, auxiliary: bool = True) -> int:
    """Trainable numbers, with or without the auxiliary heads, which serve training only."""
    kept = (p for n, p in model.named_parameters() if auxiliary or not n.startswith("auxiliary_head"))
    return sum(p.numel() for p in kept)


@needs_mmseg
@pytest.mark.slow
@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_network_builds_with_nine_classes_offline_and_takes_a_step(name: str) -> None:
    channels = 4 if segmenter(name).streams == 2 else 3
    torch.manual_seed(0)
    from evalkit.downstream.segmentation.models import build, model_config

    model = build(model_config(name, 9, [120.0] * channels, [60.0] * channels, (64, 64)))
    if name in PUBLISHED:
        millions, auxiliary = PUBLISHED[name]
        assert parameters(model, auxiliary) / 1e6 == pytest.approx(millions, abs=0.16)
    from mmengine.optim import OptimWrapper
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 9, (1, 64, 64)))
        samples.append(sample)
    data = {"inputs": [torch.randint(0, 256, (channels, 64, 64)) for _ in range(2)], "data_samples": samples}
    before = [p.detach().clone() for p in model.parameters()]
    losses = model.train().train_step(data, OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01)))
    assert torch.isfinite(losses["loss"])
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    outputs = model.eval()(torch.rand(1, channels, 64, 64))
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    assert outputs.shape[1] == 9


@needs_mmseg
@pytest.mark.slow
def test_encoder_weights_are_of_this_encoder(tmp_path: Path) -> None:
    from evalkit.downstream.segmentation.models import build, load_encoder, model_config

    def model(name: str) -> torch.nn.Module:
        return build(model_config(name, 9, [120.0] * 3, [60.0] * 3, (64, 64)))

    torch.manual_seed(0)
    first = model("SegNeXt-T")
    torch.save({"state_dict": first.backbone.state_dict() | {"head.weight": torch.ones(2)}}, tmp_path / "mscan_t.pth")
    second = model("SegNeXt-T")
    load_encoder(second, tmp_path / "mscan_t.pth")
    assert torch.equal(second.backbone.patch_embed1.proj[0].weight, first.backbone.patch_embed1.proj[0].weight)
    assert not torch.equal(second.decode_head.squeeze.conv.weight, first.decode_head.squeeze.conv.weight)
    with pytest.raises(DataError, match="not of this encoder"):
        load_encoder(model("SegFormer-B0"), tmp_path / "mscan_t.pth")


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_every_published_variant_has_a_schedule() -> None:
    for name, variants in schedules()["paper"].items():
        chosen = protocol(name)
        printed = {row.variant for row in rows_of(chosen) if row.metric != "AP50"}
        known = {schedule.block or variant for variant, schedule in variants.items()}
        assert printed - {"ResNet-50"} <= known, name
        for schedule in variants.values():
            assert schedule.network in SEGMENTERS


def test_schedules_say_what_the_papers_say() -> None:
    paper = schedules()["paper"]
    deeplab = paper["smfnet-table3"]["DeepLabv3+"]
    assert (deeplab.epochs, deeplab.optimiser["type"], deeplab.optimiser["lr"]) == (300, "SGD", 1e-2)
    bisenet = paper["tsjnet-table2"]["BiSeNet"]
    assert (bisenet.epochs, bisenet.batch, bisenet.length(1083)) == (200, 8, 200 * 135)
    banet = paper["psfusion-table1"]["BANet"]
    assert (banet.iterations, banet.batch, banet.optimiser["lr"], banet.warm_up) == (160_000, 16, 1e-3, 1000)
    assert (banet.network, banet.stands_for) == ("BANet", "")
    segnext = paper["psfusion-table2"]["SegNeXt-Large"]
    assert (segnext.batch, segnext.optimiser["lr"], segnext.warm_up_from) == (6, 6e-5, 1e-6)


def test_a_wrong_recipe_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("network: SegNeXt-Tiny")
    with pytest.raises(UnknownNameError, match="SegNeXt-T"):
        read_schedule(file)
    file.write_text("iterations: 10\nwarm_up: 10")
    with pytest.raises(DataError, match="warm-up"):
        read_schedule(file)
    file.write_text("colour: red")
    with pytest.raises(DataError, match="colour"):
        read_schedule(file)
    file.write_text("iterations: 10\nwarm_up: 0\nnetwork: BiSeNetV1-R18")
    assert read_schedule(file).network == "BiSeNetV1-R18"


# --- tables -----------------------------------------------------------------------------------------------------------


def test_without_the_extra_rows_are_missing_values_that_name_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "needs mmseg: pip install 'evalkit[segmentation]'"
    monkeypatch.setattr(segmentation_table, "missing", lambda extra: reason)
    table = reproduce("psfusion-table1", sample=True, out=tmp_path / "out")
    assert table.cells
    assert {cell.reason for cell in table.cells} == {reason}
    assert {cell.status for cell in table.cells} == {"missing"}


def test_small_results_are_never_set_against_published_ones() -> None:
    small = Variant("SegNeXt-Base", schedules()["small"], published=False)
    row = next(r for r in rows_of(protocol("psfusion-table1")) if r.key[2] == "Car IoU" and r.method == "Visible")
    job = Job(
        protocol("psfusion-table1"), {}, ["Visible"], {row.key: row}, None, False,
        quiet_settings(),
    )  # fmt: skip
    found = SegmentationResult(seeds={0: {"car IoU": float(row.printed) / 100}})
    (cell,) = segmentation_table.cells_of(job, row.block, small, "Visible", found, {"car": "Car"}, 16)
    assert (cell.status, cell.value) == ("other data", pytest.approx(float(row.printed)))
    assert cell.difference is None
    (own,) = segmentation_table.cells_of(job, row.block, small, "Mine", found, {"car": "Car"}, 16)
    assert own.status == "other data"  # a row that the paper lacks is not of its data, either


def quiet_settings() -> Settings:
    return Settings(Path(), None, None, "cpu", False, "reuse", 1, lambda items, total, text: items)


@needs_mmseg
@pytest.mark.slow
def test_a_run_is_complete_confined_and_not_repeated(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(TINY | {"network": "BiSeNetV1-R18"}))
    arguments = {"sample": True, "recipe": str(recipe), "out": tmp_path / "out", "workers": 1}
    methods = ["average", "visible", "MFNet"]
    before = set(os.listdir())
    table = reproduce("psfusion-table2", methods=methods, **arguments)
    assert table.datasets == ["samples · BiSeNetV1-R18, recipe tiny", "samples · MFNet, recipe tiny"]
    assert table.methods(table.datasets[0]) == ["average", "Visible"]
    values = {(c.dataset, c.method, c.metric): c.value for c in table.cells}
    record = json.loads(next((tmp_path / "out" / "records").glob("*BiSeNet*average.json")).read_text())
    assert record["dataset"]["parts"] == "8/4/4"
    seeds = [scores["car IoU"] for scores in record["method"]["per_seed"].values()]
    assert len(seeds) == 2
    assert values[table.datasets[0], "average", "Car IoU"] == pytest.approx(100 * np.mean(seeds))
    assert record["method"]["recoloured"]
    # nothing outside the folder and the cache, nothing left of a training but its results
    outside = {path.name for path in tmp_path.iterdir()}
    assert outside <= {"out", "home", "cache", "tiny.yaml"}
    assert not any((tmp_path / "home").rglob("*"))
    assert set(os.listdir()) == before
    seed = next((tmp_path / "out" / "downstream" / "segmentation").rglob("seed0"))
    names = {path.name for path in seed.iterdir()}
    assert names == {"best.safetensors", "counts.csv", "done.json", "history.json", "started.json"}
    # a second run trains nothing; another image trains its method anew
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("done.json")}
    again = reproduce("psfusion-table2", methods=methods, **arguments)
    assert {(c.dataset, c.method, c.metric): c.value for c in again.cells} == values
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("done.json")}


@needs_mmseg
@pytest.mark.slow
def test_a_failure_is_told_and_a_changed_training_starts_anew(scenes: Path, tmp_path: Path) -> None:
    training = tiny_training(scenes, tmp_path / "out", "MFNet", optimiser={"type": "SGD", "lr": 0.01, "mommentum": 1})
    with pytest.raises(EvalkitError, match="training of MFNet"):
        train_segmenter(training)
    good = tiny_training(scenes, tmp_path / "out", "MFNet")
    good = Training(**{**vars(good), "key": "another"})
    first = train_segmenter(good)
    same = train_segmenter(Training(**{**vars(good), "out": tmp_path / "elsewhere"}))
    assert all((first.counts[stem] == same.counts[stem]).all() for stem in first.counts)  # the seed decides


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path: Path) -> None:
    path.write_bytes(to_state({**read_state(path), "optimizer": {"state": 1}}))


DAMAGES = {
    "none": (lambda out: None, 2, ""),
    "half": (lambda out: halved(out / "resume.safetensors"), 1, "goes back to resume-before.safetensors"),
    "both": (lambda out: [halved(path) for path in out.glob("resume*")], 0, "starts again"),
    "of another training": (lambda out: zeroed(out / "resume.safetensors"), 0, "is not of this training"),
}


@needs_mmseg
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "damage"),
    [*(("MFNet", damage) for damage in DAMAGES), ("BiSeNetV1-R18", "none"), ("SegFormer-B0", "none")],
)
def test_an_interrupted_training_goes_on(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, damage: str
) -> None:
    """Stopped in its last validation, it ends as an undisturbed one: the same counts and weights."""
    from evalkit.downstream.segmentation.mmseg_parts import KeepCounts

    whole = train_segmenter(tiny_training(scenes, tmp_path / "whole", network, iterations=3))
    training = tiny_training(scenes, tmp_path / "out", network, iterations=3)
    keep, seen = KeepCounts.after_val_epoch, []

    def stop(self: KeepCounts, runner: object, metrics: dict | None = None) -> None:
        if runner.iter == 3:  # type: ignore[attr-defined]
            raise RuntimeError("the power went out")
        keep(self, runner, metrics)

    def watched(self: KeepCounts, runner: object, metrics: dict | None = None) -> None:
        seen.append(runner.iter)  # type: ignore[attr-defined]
        keep(self, runner, metrics)

    monkeypatch.setattr(KeepCounts, "after_val_epoch", stop)
    with pytest.raises(EvalkitError, match="power"):
        train_segmenter(training)
    started = (tmp_path / "out" / "history.json").read_text()
    assert [line["iteration"] for line in json.loads(started)] == [1, 2]
    monkeypatch.setattr(KeepCounts, "after_val_epoch", watched)
    do, first, says = DAMAGES[damage]
    do(tmp_path / "out")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", StateWarning)
        resumed = train_segmenter(training)
    assert says in "".join(str(one.message) for one in told if one.category is StateWarning)
    assert seen == list(range(first + 1, 4))
    assert (tmp_path / "out" / "history.json").read_text() == (tmp_path / "whole" / "history.json").read_text()
    assert all((resumed.counts[stem] == whole.counts[stem]).all() for stem in whole.counts)
    name = "best.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "out").glob("resume*"))


@needs_mmseg
@pytest.mark.slow
def test_checkpoints_of_older_versions_are_not_opened(scenes: Path, tmp_path: Path) -> None:
    """mmengine's iter_1.pth is a pickle: the training starts again and says so."""
    training = tiny_training(scenes, tmp_path / "out", "MFNet")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "started.json").write_text(json.dumps({"key": training.key}))
    (tmp_path / "out" / "last_checkpoint").write_text(str(tmp_path / "out" / "iter_1.pth"))
    (tmp_path / "out" / "iter_1.pth").write_bytes(pickle.dumps(Touch(tmp_path / "opened")))
    with pytest.warns(StateWarning, match="older version"):
        train_segmenter(training)
    assert not (tmp_path / "opened").exists()


class Touch:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return Path.touch, (self.proof,)


# --- trials


@needs_mmseg
def test_iterations_are_tried_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, recipe = tmp_path / "temporary", tmp_path / "tiny.yaml"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    recipe.write_text(yaml.safe_dump(TINY | {"network": "SegNeXt-T", "iterations": 40}), encoding="utf-8")
    options = {"sample": True, "recipe": str(recipe), "methods": ["visible"], "device": "cpu"}
    (trial,) = try_protocol("psfusion-table1", None, 2, accumulate=2, **options)
    assert (trial.network, trial.batch, trial.parts, trial.sample, trial.steps) == ("SegNeXt-T", 2, 2, "64x64", 40)
    assert len(trial.seconds) == len(trial.losses) == 2
    assert 1 < trial.losses[0]["total"] < 4
    assert "random weights in place of mscan_t*.pth (SegNeXt-T)" in trial.notes
    assert not list(folder.glob("evalkit*"))  # PyTorch has a folder of its own there
    with pytest.raises(EvalkitError, match="none of BANet is trained"):
        try_protocol("psfusion-table1", None, 2, networks=["BANet"], **options)


@needs_mmseg
def test_parts_of_a_batch_make_the_step_of_the_whole() -> None:
    from mmengine.optim import OptimWrapper  # an extra

    from evalkit.downstream.segmentation.mmseg_parts import step_in_parts

    class Fitted(torch.nn.Linear):
        """As the models of mmengine: a preprocessor, a loss, its terms."""

        def data_preprocessor(self, data: dict, training: bool) -> dict:
            assert training
            return {"inputs": torch.stack(data["inputs"])}

        def _run_forward(self, data: dict, mode: str) -> dict:
            return {"loss": self(data["inputs"]).square().mean()}

        def parse_losses(self, losses: dict) -> tuple:
            return losses["loss"], losses

    data = {"inputs": list(torch.rand(5, 3, generator=torch.Generator().manual_seed(0))), "data_samples": [None] * 5}
    results = []
    for parts in (1, 3):
        torch.manual_seed(0)
        network = Fitted(3, 2)
        terms = step_in_parts(network, parts, data, OptimWrapper(torch.optim.SGD(network.parameters(), lr=0.1)))
        results.append((float(terms["loss"]), network.weight.detach()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-6)
