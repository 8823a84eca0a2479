"""TSJNet's training: the critics and their labels, its recipes and the rows of Table 3."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from evalkit.data.samples.samples import write_scenes
from evalkit.errors import DataError, EvalkitError, UnknownNameError
from evalkit.methods.checkpoints import CheckpointError
from evalkit.methods.networks.tsjnet import PUBLISHED
from evalkit.training.critics import (
    MSRS_CLASSES,
    VOC_CLASSES,
    DetectionCritic,
    SegmentationCritic,
    load_detector,
    load_segmenter,
)
from evalkit.training.find_recipe import load_recipe
from evalkit.training.loop import train
from evalkit.training.papers.tsjnet import (
    ABLATIONS,
    DETECTOR_LOSSES,
    PRESETS,
    TSJNetSystem,
    detector_loss,
    fusion_terms,
    options_of,
)
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, build_system

TINY = {
    "method": "TSJNet",
    "name": "tiny",
    "source": "a test",
    "data": {"datasets": {"samples": None}, "holdout": 2},
    "augment": {"crop": 32, "flip_horizontal": True},
    "network": {"stem": [4, 4, 8], "planes": 8, "width": 16, "depths": [1, 1], "heads": 1},
    "loss": {"preset": "code", "detection": False, "segmentation": False},
    "batch": 2,
    "steps": 2,
    "stages": [{"name": "fuse", "epochs": 2}],
    "optimiser": {"lr": 1e-3, "clip": 1.0, "schedule": {"kind": "plateau", "factor": 0.1, "patience": 3}},
}
JUDGED = TINY | {
    "data": TINY["data"] | {"labels": ["classes", "boxes"]},
    "loss": {"preset": "code"},
    "weights": {"detector": "d.pth", "segmenter": "s.pth"},
}
FUSION = ["intensity", "gradient", "ssim", "diversity", "infrared", "visible"]


class StandInDetector(nn.Module):
    """Gives the losses that torchvision's detectors give, in training mode only, as theirs; keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.5))
        self.box, self.objectness = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 1, 1)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        assert self.training, "in evaluation mode there are detections, no losses"
        self.shown = images, targets
        features = [self.body(image[None]) for image in images]
        wanted = torch.stack([t["boxes"].mean(dim=0) for t in targets]) / 32
        box = torch.stack([self.box(f).mean(dim=(2, 3))[0] for f in features])
        logits = torch.stack([self.objectness(f).mean() for f in features])
        return {
            "loss_classifier": logits.sum() * torch.nan,  # left out, so that it must not matter
            "loss_box_reg": (box - wanted).abs().mean(),
            "loss_objectness": nn.functional.softplus(-logits).mean(),
            "loss_rpn_box_reg": (box - wanted).square().mean(),
        }


class StandInSegmenter(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, classes, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        self.shown = image
        return {"out": self.body(image)}


def tiny(base: dict = TINY, **changes: object) -> Recipe:
    return Recipe.model_validate(base | changes)


def batch(side: int = 32) -> dict:
    random = torch.Generator().manual_seed(1)
    return {
        "infrared": torch.rand(2, 1, side, side, generator=random),
        "visible": torch.rand(2, 3, side, side, generator=random),
        "classes": torch.randint(0, 9, (2, side, side), generator=random),
        "boxes": [torch.tensor([[0.0, 2, 3, 12, 20]]), torch.tensor([[2.0, 1, 1, 9, 9], [1, 5, 5, 30, 31]])],
        "stems": ["a", "b"],
    }


def judged(variant: str = "", **changes: object) -> TSJNetSystem:
    """With stand-ins for the critics whose terms the recipe has."""
    torch.manual_seed(0)
    system = build_system(tiny(JUDGED, variant=variant, **changes))
    torch.manual_seed(5)
    detector, segmenter = (
        DetectionCritic(StandInDetector()),
        SegmentationCritic(StandInSegmenter(MSRS_CLASSES), MSRS_CLASSES),
    )
    if system.loss.detection:
        system.detector = detector
    if system.loss.segmentation:
        system.segmenter = segmenter
    return system.train()


def states(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


# --- critics


def test_the_terms_are_those_of_eq_7() -> None:
    system, sample = judged(), batch()
    torch.manual_seed(2)
    terms = system(sample, Moment("fuse"))
    assert list(terms) == [*FUSION, "detection", "segmentation"]
    assert all(torch.isfinite(term) for term in terms.values())
    torch.manual_seed(2)  # the detail branch drops channels
    gray = (sample["visible"] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    outputs = system.network.outputs(sample["infrared"], gray)
    expected = fusion_terms(outputs, sample["infrared"], gray, PRESETS["code"])
    for name, value in expected.items():
        assert torch.allclose(terms[name], value, rtol=1e-4), name
    detected = system.detector(outputs.fused, sample["boxes"])
    assert torch.allclose(terms["detection"], sum(detected[name] for name in DETECTOR_LOSSES), rtol=1e-4)
    logits = system.segmenter(outputs.fused)
    assert torch.allclose(terms["segmentation"], nn.functional.cross_entropy(logits, sample["classes"]), rtol=1e-4)


@pytest.mark.parametrize("term", ["detection", "segmentation"])
def test_a_critics_gradient_reaches_the_fusion_network_alone(term: str) -> None:
    system = judged()
    critics = [system.detector, system.segmenter]
    before = [states(critic) for critic in critics]
    optimiser = torch.optim.Adam(system.network.parameters(), lr=1e-3)
    system(batch(), Moment("fuse"))[term].backward()
    gradients = {name: p.grad for name, p in system.network.named_parameters()}
    for part in ("encoder.", "decoder.", "fuse_base.", "fuse_detail."):
        found = [float(g.abs().max()) for name, g in gradients.items() if name.startswith(part) and g is not None]
        assert max(found) > 0, part
    optimiser.step()
    for critic, old in zip(critics, before, strict=True):
        assert all(p.grad is None and not p.requires_grad for p in critic.parameters())
        assert all(torch.equal(value, old[key]) for key, value in critic.state_dict().items())


def test_critics_do_not_drift_over_a_run(tmp_path: Path, monkeypatch) -> None:
    """In the loop parts and modes change; the authors' critics drifted with every image."""
    write_scenes(tmp_path / "data", 4, 7, 80, 64)
    made = []

    def load(self: TSJNetSystem, weights: Path | None) -> None:
        self.detector = DetectionCritic(StandInDetector())
        self.segmenter = SegmentationCritic(StandInSegmenter(VOC_CLASSES), VOC_CLASSES)
        made.extend((critic, states(critic)) for critic in (self.detector, self.segmenter))

    monkeypatch.setattr(TSJNetSystem, "load_critics", load)
    recipe = tiny(JUDGED, augment={"crop": 64}, stages=[{"name": "fuse", "epochs": 1}])
    monkeypatch.setattr(StandInDetector, "forward", with_boxes(StandInDetector.forward))
    result = train(recipe, tmp_path / "data", tmp_path / "run", device="cpu")
    log = (tmp_path / "run" / "log.csv").read_text()
    assert "train,detection" in log
    assert "validation,segmentation" in log  # the detector gives losses there as well
    assert result.steps == 2
    for critic, old in made:
        assert all(torch.equal(value, old[key]) for key, value in critic.state_dict().items())
        assert not any(key.startswith(("detector", "segmenter")) for key in torch_keys(result.weights))


def with_boxes(forward):
    """A square may hold no box; the stand-in's mean over the boxes needs one."""

    def changed(self, images, targets):
        for target in targets:
            if not len(target["boxes"]):
                target["boxes"] = torch.zeros(1, 4)
        return forward(self, images, targets)

    return changed


def torch_keys(path: Path) -> list[str]:
    from evalkit.methods.checkpoints import read_checkpoint

    return list(read_checkpoint(path))


def test_the_detector_sees_three_channels_and_coco_numbers() -> None:
    network = StandInDetector()
    detector = DetectionCritic(network)
    image, sample = torch.rand(2, 1, 32, 32), batch()
    losses = detector.eval()(image, sample["boxes"])
    images, targets = network.shown
    assert torch.equal(images[0], image[0].repeat(3, 1, 1))
    assert [t["labels"].tolist() for t in targets] == [[1], [3, 2]]  # person; car, bicycle
    assert targets[0]["boxes"].tolist() == [[2, 3, 12, 20]]
    assert torch.isfinite(detector_loss(losses))
    assert torch.equal(detector_loss(losses, ("loss_box_reg",)), losses["loss_box_reg"])
    with pytest.raises(DataError, match="box classes reach from 5"):
        detector(image, [torch.tensor([[5.0, 1, 1, 9, 9]])] * 2)


def test_the_segmenter_sees_imagenets_normalisation() -> None:
    network = StandInSegmenter(9)
    segmenter = SegmentationCritic(network, 9).train()
    assert not network.training
    segmenter(torch.full((1, 1, 8, 8), 0.485))
    expected = [0, (0.485 - 0.456) / 0.224, (0.485 - 0.406) / 0.225]
    assert network.shown[0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_labels_are_integers_of_the_segmenters_classes() -> None:
    labels = torch.arange(9)[None, None]
    own, voc = (SegmentationCritic(StandInSegmenter(n), n) for n in (MSRS_CLASSES, VOC_CLASSES))
    assert torch.equal(own.labels(labels), labels)
    # VOC: 2 bicycle, 7 car, 15 person
    assert voc.labels(labels).flatten().tolist() == [0, 7, 15, 2, 0, 0, 0, 0, 0]
    assert own.labels(torch.zeros(1, 2, 2, dtype=torch.long)).sum() == 0
    with pytest.raises(DataError, match="integers"):  # an image scaled to [0, 1]: the defect of the authors' code
        own.labels(labels / 255)
    with pytest.raises(DataError, match="reach from 0 to 9"):
        own.labels(labels + (labels == 8))


def test_critics_need_torchvision_and_say_so(tmp_path: Path, monkeypatch) -> None:
    def refuse(name: str, *rest: object, **named: object):
        raise RuntimeError("operator torchvision::nms does not exist")  # one that was made for another torch

    monkeypatch.setattr("evalkit.training.critics.import_module", refuse)
    path = tmp_path / "d.pth"
    with pytest.raises(EvalkitError, match=r"torchvision.*nms does not exist.*Install the release"):
        load_detector({}, path)
    with pytest.raises(CheckpointError, match="9 classes"):
        load_segmenter({"classifier.4.weight": torch.zeros(5, 256, 1, 1)}, path)
    with pytest.raises(EvalkitError, match="torchvision"):
        load_segmenter({"classifier.4.weight": torch.zeros(9, 256, 1, 1)}, path)


def test_a_recipe_with_critics_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--checkpoints"):
        build_system(tiny(JUDGED)).load_critics(None)
    with pytest.raises(DataError, match="no file"):
        build_system(tiny(JUDGED)).load_critics(tmp_path)
    with pytest.raises(EvalkitError, match="lacks its critic"):
        build_system(tiny(JUDGED, weights={"detector": "d.pth"}))
    with pytest.raises(EvalkitError, match="or its labels"):
        build_system(tiny(JUDGED, data=TINY["data"]))
    with pytest.raises(UnknownNameError, match="preset"):
        build_system(tiny(loss={"preset": "codes", "detection": False, "segmentation": False}))


# --- Table 3


@pytest.mark.parametrize("variant", ABLATIONS)
def test_a_variant_differs_in_the_named_part_and_learns(variant: str) -> None:
    full, other = judged(), judged(variant)
    sample = batch()
    names = [list(system(sample, Moment("fuse"))) for system in (full, other)]
    dropped = {"w/o DSM": set(), "w/o L_Det": {"detection"}, "w/o L_Seg": {"segmentation"}}
    assert set(names[0]) - set(names[1]) == dropped.get(variant, {"detection", "segmentation"})
    assert set(names[1]) <= set(names[0])
    shapes = [{k: v.shape for k, v in system.network.state_dict().items()} for system in (full, other)]
    missing = {key for key in shapes[0] if key not in shapes[1]}
    detail = {key for key in shapes[0] if key.startswith(("encoder.detail.", "fuse_detail."))}
    assert missing == (detail if variant == "w/o DSM" else set())
    assert shapes[1] == {key: shape for key, shape in shapes[0].items() if key not in missing}
    total = torch.stack(list(other(sample, Moment("fuse")).values())).sum()
    total.backward()
    assert torch.isfinite(total)
    used = {n: p for n, p in other.network.named_parameters() if ".unused." not in n}
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in used.values())
    assert max(float(p.grad.abs().max()) for p in used.values()) > 0


@pytest.mark.parametrize("variant", ["w/o L_Det", "w/o L_Seg", "w/o L_Det, L_Seg"])
def test_a_variant_that_would_not_differ_is_refused(variant: str) -> None:
    with pytest.raises(EvalkitError, match="does not have anyway"):
        load_recipe("TSJNet", "small", variant)
    assert load_recipe("TSJNet", "paper", variant).variant == variant


def test_without_the_dsm_the_small_recipe_trains() -> None:
    assert load_recipe("TSJNet", "small", "w/o DSM").variant == "w/o DSM"


# --- recipes


def test_the_paper_recipe_is_the_published_network() -> None:
    recipe = load_recipe("TSJNet", "paper")
    sizes, _, loss = options_of(recipe)
    assert sizes == PUBLISHED
    assert (loss.preset, loss.detection, loss.segmentation) == ("code", True, True)
    assert (recipe.batch, recipe.stages[0].epochs, recipe.optimiser.lr, recipe.precision) == (2, 40, 1e-3, "16-mixed")
    assert (recipe.optimiser.clip, recipe.augment.crop, recipe.data.labels) == (1.0, None, ("classes", "boxes"))
    assert TSJNetSystem.method(recipe).build.args == (PUBLISHED,)


def test_images_of_any_size_are_padded_for_the_network_and_judged_as_they_are() -> None:
    system = judged()
    sample = batch(36)
    sample = {k: v[..., :33] if isinstance(v, Tensor) else v for k, v in sample.items()}
    assert all(torch.isfinite(term) for term in system(sample, Moment("fuse")).values())
    assert system.segmenter.network.shown.shape == (2, 3, 36, 33)


def test_losses_are_in_full_precision() -> None:
    system = build_system(tiny()).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = system(batch(), Moment("fuse"))
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_in_the_last_stage_normalisation_stands_still() -> None:
    system, sample = build_system(tiny()).train(), batch()

    def statistics() -> dict[str, Tensor]:
        return {k: v.clone() for k, v in system.network.state_dict().items() if "running" in k and ".unused" not in k}

    before = statistics()
    system(sample, Moment("fuse"))
    moved = statistics()
    assert all(not torch.equal(moved[key], value) for key, value in before.items())
    system(sample, Moment("settle"))
    assert all(torch.equal(statistics()[key], value) for key, value in moved.items())
