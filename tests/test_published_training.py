"""How the authors' programs train, in numbers: rates, losses, clipping, crops. Every expected value is that of a
published program, run outside on the same inputs, or of a formula that stands beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tensors import noise
from torch import Tensor, nn

from evalkit.data.samples.samples import write_scenes
from evalkit.downstream.segmentation.recipe import schedules
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.networks.psfusion import Outputs as PSFusionOutputs
from evalkit.methods.networks.smfnet import Features, Fusion, Reconstruction
from evalkit.methods.networks.tsjnet import Outputs as TSJNetOutputs
from evalkit.methods.registry import method_card
from evalkit.training.critics import DetectionCritic, SegmentationCritic
from evalkit.training.data import TrainingPair, augmented
from evalkit.training.find_recipe import load_recipe
from evalkit.training.loop import TrainingRun, start_fabric, train
from evalkit.training.papers import psfusion, s4fusion, smfnet, tsjnet
from evalkit.training.recipe import Augment, Recipe
from evalkit.training.schedule import rate
from evalkit.training.terms import structural_similarity


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 6, 7, 80, 64)


# --- rates at 20 steps each

# the authors' class for the optimiser, 2500 epochs of 67 steps
PSFUSION = {
    0: 1e-5, 1: 1.004616e-5, 10: 1.047129e-5, 100: 1.584893e-5, 250: 3.162278e-5, 500: 1e-4, 750: 3.162278e-4,
    900: 6.309573e-4, 999: 9.954054e-4, 1000: 1e-3, 1001: 9.999946e-4, 1002: 9.999892e-4, 2000: 9.94593e-4,
    5000: 9.783522e-4, 10000: 9.512172e-4, 50000: 7.307373e-4, 100000: 4.437114e-4, 150000: 1.316623e-4,
    167000: 5.367848e-6, 167499: 1.998606e-8,
}  # fmt: skip
# the authors' class, 2000 steps, 100 of them warm-up: it counts a step before it gives the rate
S4FUSION = {
    0: 3.12e-4, 1: 3.24e-4, 2: 3.36e-4, 5: 3.72e-4, 10: 4.32e-4, 25: 6.12e-4, 50: 9.12e-4, 75: 1.212e-3, 98: 1.488e-3,
    99: 1.5e-3, 100: 1.499999e-3, 101: 1.499998e-3, 150: 1.498401e-3, 250: 1.486047e-3, 500: 1.404656e-3,
    750: 1.263522e-3, 1000: 1.086419e-3, 1500: 7.446763e-4, 1998: 6.000006e-4, 1999: 6e-4,
}  # fmt: skip
# epoch: rate of encoder, decoder and graph; of the fusion layers (PyTorch's StepLR as the script calls it)
SMFNET = {
    0: (1e-4, None), 1: (1e-4, None), 10: (1e-4, None), 18: (1e-4, None), 19: (1e-4, None), 20: (5e-5, None),
    21: (5e-5, None), 38: (5e-5, None), 39: (5e-5, None), 40: (2.5e-5, 1e-4), 41: (2.5e-5, 1e-4), 59: (2.5e-5, 1e-4),
    60: (1.25e-5, 5e-5), 61: (1.25e-5, 5e-5), 79: (1.25e-5, 5e-5), 80: (6.25e-6, 2.5e-5), 99: (6.25e-6, 2.5e-5),
    100: (3.125e-6, 1.25e-5), 118: (3.125e-6, 1.25e-5), 119: (3.125e-6, 1.25e-5),
}  # fmt: skip


@pytest.mark.parametrize("recipe", ["paper", "authors"])
def test_psfusions_rates(recipe: str) -> None:
    optimiser = load_recipe("PSFusion", recipe).optimiser
    assert {s: rate(optimiser, s, 2500 * 67, 0) for s in PSFUSION} == pytest.approx(PSFUSION, rel=1e-6)


@pytest.mark.parametrize("recipe", ["paper", "authors"])
def test_s4fusions_rates(recipe: str) -> None:
    optimiser = load_recipe("S4Fusion", recipe).optimiser
    assert {s: rate(optimiser, s, 2000, 0) for s in S4FUSION} == pytest.approx(S4FUSION, rel=1e-6)


@pytest.mark.parametrize("recipe", ["paper", "authors"])
def test_smfnets_rates(recipe: str) -> None:
    known = load_recipe("SMFNet", recipe)
    first, second = known.stages
    assert (first.epochs, second.epochs, first.parts) == (40, 80, ("encoder", "graph", "decoder"))
    for epoch, (early, late) in SMFNET.items():
        assert rate(known.optimiser, 0, 1, epoch) == pytest.approx(early)
        if late is not None:  # the fusion layers have learned since epoch 40
            assert rate(known.optimiser, 0, 1, epoch - first.epochs) == pytest.approx(late)


# --- losses: what the published functions give on these inputs

H, W = 32, 40
INFRARED, VISIBLE = noise(2, 1, H, W), noise(2, 3, H, W, seed=1)
GRAY = luminance(VISIBLE)
FUSED = 0.5 * INFRARED + 0.3 * GRAY + 0.2 * noise(2, 1, H, W, seed=2)
ONE, OTHER = noise(2, 1, H, W, seed=3), noise(2, 1, H, W, seed=4)


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(term) for name, term in terms.items()}


def test_zeros_surround_the_images_of_tsjnets_ssim() -> None:
    assert float(structural_similarity(INFRARED, GRAY, border="zeros")) == pytest.approx(0.11176513, abs=1e-6)
    assert float(structural_similarity(INFRARED, GRAY)) != pytest.approx(0.11176513, abs=1e-3)
    assert float(tsjnet.ssim_loss(INFRARED, INFRARED, GRAY)) == pytest.approx((1 - 0.11176513) / 2, abs=1e-6)


def test_tsjnets_terms() -> None:
    options = tsjnet.options_of(load_recipe("TSJNet", "authors"))[2]
    assert options == tsjnet.AUTHORS
    outputs = TSJNetOutputs(FUSED, ONE, OTHER, noise(2, 8, H, W, seed=5))
    red = VISIBLE[:, :1]
    terms = tsjnet.fusion_terms(outputs, INFRARED, red, tsjnet.PRESETS[options.preset])
    assert values(terms) == pytest.approx(
        {
            "intensity": 4.0269771,
            "gradient": 22.6423416,
            "ssim": 4.9027276,
            "diversity": 0.0610782,
            "infrared": 0.1675611,
            "visible": 0.9892403,
        },
        rel=1e-5,
    )


def test_smfnets_terms() -> None:
    options = smfnet.options_of(load_recipe("SMFNet", "authors"))[1]
    assert options == smfnet.AUTHORS
    maps = [noise(2, 4, H, W, seed=seed) for seed in range(10, 16)]
    for second, share in ((1, 0.5), (3, 0.4), (5, 0.3)):  # so that they correlate
        maps[second] = (1 - share) * maps[second] + share * maps[second - 1]
    infrared, visible = (Features(maps[i], maps[i + 2], maps[i + 4]) for i in (0, 1))
    first = smfnet.stage_one_terms(Reconstruction(OTHER, ONE, infrared, visible), INFRARED, GRAY, options)
    assert values(first) == pytest.approx(
        {
            "visible ssim": 3.6449203,
            "visible gradient": 9.2122203,
            "infrared ssim": 3.7164955,
            "infrared gradient": 9.5214051,
            "visible spatial gradient": 0.6103268,
            "semantic": 1.2923843e-4,
            "decomposition": 0.3550491,
        },
        rel=1e-5,
    )
    second = smfnet.stage_two_terms(Fusion(FUSED, infrared, visible), INFRARED, GRAY, options)
    expected = {"intensity": 0.1558166, "gradient": 8.5054874, "decomposition": 0.7100981}
    assert values(second) == pytest.approx(expected, rel=1e-5)


def test_psfusions_terms() -> None:
    recipe = load_recipe("PSFusion", "authors")
    options = psfusion.options_of(recipe)[1]
    assert options == psfusion.AUTHORS
    assert recipe.batch * 256 * 256 * options.hard_share == 16 * 256 * 256 // 16
    labels = (noise(2, H, W, seed=7) * 9).long()
    labels[0, :3] = 0
    semantic, binary, boundary = (4 * noise(2, c, H, W, seed=s) - 2 for c, s in ((9, 20), (2, 21), (2, 22)))
    outputs = PSFusionOutputs(
        fused=FUSED, visible=OTHER, infrared=ONE, semantic=semantic, binary=binary, boundary=boundary
    )
    terms = psfusion.psfusion_terms(outputs, INFRARED, VISIBLE, psfusion.targets_of(labels), options)
    assert values(terms) == pytest.approx(
        {
            "intensity": 0.2917646,
            "texture": 10.1873302,
            "correlation": 0.835783,
            "visible fidelity": 1.9410715,
            "infrared fidelity": 2.2004306,
            "semantic": 27.1265125,
            "boundary": 8.4461039,
            "binary": 78.7985373,
        },
        rel=1e-5,
    )


def test_s4fusions_terms_by_hand() -> None:
    """Its losses are published byte-compiled: constants and operations can be read, and are these."""
    options = s4fusion.options_of(load_recipe("S4Fusion", "authors"))[1]
    assert not options.normalised
    assert s4fusion.options_of(load_recipe("S4Fusion", "paper"))[1].normalised
    shares = torch.tensor([0.25, 0.7]), torch.tensor([0.75, 0.3])
    terms = values(s4fusion.loss_terms(FUSED, INFRARED, GRAY, shares, torch.zeros(2, 1000), options))
    distances = [(FUSED - source).abs().mean(dim=(1, 2, 3)) for source in (INFRARED, GRAY)]
    intensity = sum((share * d).mean() for share, d in zip(shares, distances, strict=True))
    assert terms["perception"] == pytest.approx(6.907755 + 1e-9 * 1000 * (6.907755 - 1), rel=1e-6)  # ln 1000
    assert terms["intensity"] == pytest.approx(15 * float(intensity), rel=1e-5)
    assert list(terms) == ["perception", "intensity", "structure", "gradient"]


# --- recipes


LEARNS = {
    "SMFNet": {"network": {"width": 8, "heads": 2, "base_blocks": 1, "bottleneck": 2, "dilations": [1, 2, 3]}},
    "PSFusion": {"network": {"width": 8, "blocks": [1, 1, 1, 1]}},
    "S4Fusion": {"network": {"widths": [8, 16, 32], "depths": [1, 1, 1], "cmsa_blocks": 1}},
    "TSJNet": {"network": {"stem": [4, 4, 8], "planes": 8, "width": 16, "depths": [1, 1], "heads": 1}},
}


class Detector(nn.Module):
    """Losses of a gray image under torchvision's names."""

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        value = torch.stack([image.mean() for image in images]).mean()
        return dict.fromkeys(("loss_classifier", *tsjnet.DETECTOR_LOSSES), value)


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 9, 1), nn.BatchNorm2d(9))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        self.shown = image
        return {"out": self.body(image)}


def critics(system: object, weights: Path | None) -> None:
    """Small networks in place of the published critics."""
    if isinstance(system, tsjnet.TSJNetSystem):
        system.detector = DetectionCritic(Detector())
        system.segmenter = SegmentationCritic(Segmenter(), 9, system.loss.authors_critics)


@pytest.mark.parametrize("method", LEARNS)
def test_a_step_of_the_authors_recipe(method: str, scenes: Path, tmp_path: Path, monkeypatch) -> None:
    """All stages at small width on small squares, with the recipe's own losses, optimiser and schedule."""
    known = load_recipe(method, "authors")
    for system in (tsjnet.TSJNetSystem, s4fusion.S4FusionSystem):
        monkeypatch.setattr(system, "load_critics", critics)
    monkeypatch.setattr(psfusion.PSFusionSystem, "prepare", lambda system, weights: None)
    changes = {
        "data": {"datasets": {"samples": None}, "labels": known.data.labels},
        "augment": known.augment.model_copy(update={"crop": 64 if method != "S4Fusion" else 61, "stride": None}),
        "network": known.network | LEARNS[method]["network"],
        "batch": 2,
        "steps": 1,
        "stages": [stage.model_copy(update={"epochs": 1}) for stage in known.stages],
    }
    if method == "S4Fusion":
        changes["loss"] = known.loss | {"perception": 0}
    recipe = Recipe.model_validate(known.model_dump() | changes)
    result = train(recipe, scenes, tmp_path / "run", device="cpu")
    assert result.steps == len(known.stages)
    log = (tmp_path / "run" / "log.csv").read_text()
    assert {
        "SMFNet": "visible spatial gradient",
        "PSFusion": "infrared fidelity",
        "S4Fusion": "structure",
        "TSJNet": "segmentation",
    }[method] in log


def test_one_flip_or_the_other_or_none() -> None:
    """A third each, as PSFusion's program: never both."""
    gray = noise(4, 6).mul(255).byte().numpy()
    scene = TrainingPair(gray, gray[..., None].repeat(3, axis=2))
    views = [augmented(scene, Augment(flip_either=True), np.random.default_rng(seed)).infrared for seed in range(300)]
    counts = [sum((view == as_seen).all() for view in views) for as_seen in (gray, gray[::-1], gray[:, ::-1])]
    assert sum(counts) == 300
    assert min(counts) > 70


def test_tsjnets_critics_as_published() -> None:
    """Gray levels as they are, each batch normalised by itself, background as the answer everywhere."""
    network = Segmenter()
    segmenter = SegmentationCritic(network, 9, as_published=True).eval()
    images = noise(2, 1, 8, 8)
    logits = segmenter(images)
    assert torch.equal(network.shown, images.repeat(1, 3, 1, 1))
    assert logits.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert not segmenter.labels(torch.arange(9)[None]).any()
    assert not any(parameter.requires_grad for parameter in segmenter.parameters())


# --- clipping


def test_tsjnet_clips_each_of_its_four_modules(scenes: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tsjnet.TSJNetSystem, "load_critics", critics)
    known = load_recipe("TSJNet", "paper")
    assert known.optimiser.clip == 1
    recipe = Recipe.model_validate(
        known.model_dump()
        | {"data": {"datasets": {"samples": None}, "labels": ("classes", "boxes")}, "augment": {"crop": 32}}
        | LEARNS["TSJNet"]
        | {"precision": "32-true", "optimiser": {"kind": "sgd", "lr": 1e-9, "momentum": 0, "clip": 1.0}}
    )
    run = TrainingRun(recipe, start_fabric("cpu", 1, "32-true"), scenes, tmp_path / "run", None, 0, print)
    run.set_modes(["network"])
    leg = run.legs[0]
    run.learn(leg, next(iter(run.batches(leg, 0, 0))), run.totals())
    norms = {
        name: float(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm())
        for name, module in run.system.network.named_children()
    }
    assert list(norms) == ["encoder", "decoder", "fuse_base", "fuse_detail"]
    assert max(norms.values()) <= 1 + 1e-5
    assert sum(norm > 1 - 1e-3 for norm in norms.values()) >= 2  # with one common norm at most one would be at 1


@pytest.mark.parametrize(("scaled", "expected"), [(False, 0.01), (True, 0.01 / 2**16)])
def test_a_scaled_gradient_is_clipped_to_a_share_of_the_norm(
    scaled: bool, expected: float, scenes: Path, tmp_path: Path
) -> None:
    """Mixed precision multiplies the loss by 65,536 at first; clipped before that is undone, so much less is left."""
    recipe = Recipe.model_validate(
        {
            "method": "SMFNet",
            "name": "tiny",
            "source": "a test",
            "data": {"datasets": {"samples": None}},
            "augment": {"crop": 24},
            "network": LEARNS["SMFNet"]["network"],
            "batch": 2,
            "stages": [{"name": "fuse", "epochs": 1}],
            "optimiser": {"kind": "sgd", "lr": 1.0, "momentum": 0, "clip": 0.01, "clip_scaled": scaled},
        }
    )
    run = TrainingRun(recipe, start_fabric("cpu", 1, "32-true"), scenes, tmp_path / "run", None, 0, print)
    scaler = torch.amp.GradScaler("cpu")
    precision = run.fabric.strategy.precision
    precision.backward = lambda loss, module, *a, **k: scaler.scale(loss).backward()
    precision.unscale_gradients = scaler.unscale_
    precision.optimizer_step = lambda optimizer, **k: scaler.step(optimizer)
    leg = run.legs[0]
    run.learn(leg, next(iter(run.batches(leg, 0, 0))), run.totals())
    gradient = torch.cat([parameter.grad.flatten() for parameter in run.system.network.decoder.parameters()])
    assert float(gradient.norm()) == pytest.approx(expected, rel=1e-3)


# --- the page


def rows_of_the_page(method: str) -> dict[str, list[str]]:
    """A method's table in docs/training.md: item -> paper, code, `paper`, `authors`; "same" is the cell to the left."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    lines = text.partition(f"**{method}**")[2].partition("| item ")[2].splitlines()
    rows: dict[str, list[str]] = {}
    for line in lines[2 : lines.index("")]:
        item, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
        for place, cell in enumerate(cells):
            cells[place] = cells[place - 1] if cell in ("same", "same |") and place else cell
        rows[item] = cells
    return rows


@pytest.mark.parametrize("method", LEARNS)
def test_the_page_says_what_the_recipes_have(method: str) -> None:
    rows = rows_of_the_page(method)
    for place, name in ((2, "paper"), (3, "authors")):
        recipe = load_recipe(method, name)
        batch = next(cells for item, cells in rows.items() if item.startswith("batch"))[place]
        clipping = rows["clipping"][place]
        likewise = [name, batch, clipping]
        assert batch.startswith(str(recipe.batch)), likewise
        assert all(str(stage.epochs) in rows["stages"][place] for stage in recipe.stages), likewise
        assert (recipe.optimiser.clip is None) == (clipping == "none"), likewise
        assert str(recipe.seed) in rows["precision, seed"][place]
        assert ("mixed" in rows["precision, seed"][place]) == ("mixed" in recipe.precision)


# --- segmentation, cards


def test_squares_of_psfusions_segmentation_are_upright() -> None:
    """The authors' configuration has crop_size = (640, 480), which is height first, on images of 480 rows: padded."""
    paper = schedules()["paper"]
    crops = {
        (name, variant): schedule.cut
        for name, variants in paper.items()
        for variant, schedule in variants.items()
        if name.startswith("psfusion") and schedule.network.startswith("Seg")
    }
    assert len(crops) == 8
    assert set(crops.values()) == {(640, 480)}
    assert paper["psfusion-table2"]["MFNet"].cut == (480, 640)


@pytest.mark.parametrize("name", ["PMGI", "SDNet", "STDFusionNet", "FusionGAN"])
def test_licences_of_the_repositories(name: str) -> None:
    assert method_card(name).licence.startswith("MIT")
