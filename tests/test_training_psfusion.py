"""Training of PSFusion: all heads at once, the pretrained backbone, its ablations, its recipes."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from evalkit.data.card import load_card  # noqa: E402
from evalkit.data.pairs import find_pairs  # noqa: E402
from evalkit.data.samples.samples import write_scenes  # noqa: E402
from evalkit.errors import DataError, UnknownNameError  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError  # noqa: E402
from evalkit.methods.fuse import make_fuser  # noqa: E402
from evalkit.methods.layers.resnet import ResNetEncoder  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks.psfusion import Outputs, PSFusion  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402
from evalkit.training.find_recipe import load_recipe  # noqa: E402
from evalkit.training.loop import train  # noqa: E402
from evalkit.training.papers.psfusion import (  # noqa: E402
    ABLATIONS,
    PAPER,
    PSFusionSystem,
    correlation_loss,
    targets_of,
)
from evalkit.training.recipe import Recipe  # noqa: E402
from evalkit.training.schedule import rate  # noqa: E402
from evalkit.training.system import Moment, build_system  # noqa: E402
from evalkit.training.trained import trained_method  # noqa: E402

SIDE = 64
TINY = {
    "method": "PSFusion",
    "name": "tiny",
    "source": "a test",
    "data": {"datasets": {"samples": None}, "labels": ["classes"], "holdout": 2},
    "augment": {"crop": SIDE, "flip_horizontal": True, "rotate": True},
    "network": {"width": 8, "blocks": [1, 1, 1, 1]},
    "loss": {"least_correlation": 0.1},
    "batch": 2,
    "steps": 4,
    "stages": [{"name": "all", "epochs": 3}],
    "optimiser": {"lr": 3e-3, "clip": 5.0},
}
HEADS = {
    "fused": "fused_head", "visible": "visible_path", "infrared": "infrared_path", "semantic": "segment.semantic",
    "binary": "segment.binary", "boundary": "segment.boundary",
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, 6, 7, 96, 80)
    return root


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run."""
    return train(tiny(), scenes, tmp_path_factory.mktemp("run"), device="cpu").folder


def tiny(**changes: object) -> Recipe:
    return Recipe.model_validate(TINY | changes)


def batch() -> dict[str, object]:
    draw = torch.Generator().manual_seed(3)
    classes = torch.zeros(2, SIDE, SIDE, dtype=torch.int64)
    classes[:, 16:40, 20:44], classes[:, 48:56, 4:30] = 2, 6
    return {
        "infrared": torch.rand(2, 1, SIDE, SIDE, generator=draw) * 0.5 + 0.5 * (classes == 2)[:, None],
        "visible": torch.rand(2, 3, SIDE, SIDE, generator=draw),
        "classes": classes,
    }


def system(variant: str = "", **changes: object) -> PSFusionSystem:
    torch.manual_seed(0)
    built = build_system(tiny(variant=variant, **changes))
    assert isinstance(built, PSFusionSystem)
    return built


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}


# --- the stage


def test_all_terms_are_learnt_at_once_and_fall(trained: Path) -> None:
    with (trained / "log.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    assert {row["term"] for row in rows} == {
        "total", "intensity", "texture", "correlation", "visible fidelity", "infrared fidelity", "semantic", "boundary",
        "binary",
    }  # fmt: skip
    totals = [float(row["value"]) for row in rows if row["term"] == "total"]
    assert totals[-1] < totals[0]


def test_every_head_and_both_encoders_get_a_gradient() -> None:
    learning = system()
    sum(learning(batch(), Moment("all")).values()).backward()
    found = {name for name, p in learning.network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    for part in (*HEADS.values(), "infrared.sfeb1", "visible.sfeb1", "perception", "profound", "superficial"):
        assert any(name.startswith(part) for name in found), part


def test_the_labels_teach_the_segmentations() -> None:
    learning, terms = system(), ("semantic", "binary")
    right, wrong = batch(), batch()
    wrong["classes"] = wrong["classes"].flip(1)  # type: ignore[attr-defined]

    def losses(of: dict[str, object]) -> list[float]:
        with torch.no_grad():
            found = learning(of, Moment("all"))
        return [found[term].item() for term in terms]

    before = losses(right)
    optimiser = torch.optim.Adam(learning.parameters(), lr=5e-3)
    for _ in range(12):
        optimiser.zero_grad()
        found = learning(right, Moment("all"))
        sum(found[term] for term in terms).backward()
        optimiser.step()
    for first, now, elsewhere in zip(before, losses(right), losses(wrong), strict=True):
        assert now < 0.8 * first
        assert now < 0.8 * elsewhere


def test_targets_of_generated_labels_are_thermal() -> None:
    found = targets_of(torch.tensor([[[0, 1, 2], [3, 4, 8], [0, 0, 0]]]))
    assert found.salient[0, 0].tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_below_the_least_correlation_the_loss_is_bounded() -> None:
    """Next to the pole of Eq. 19 the loss grows without bound, and changes its sign behind it."""
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 32, 32, generator=draw)
    against = (1 - image).requires_grad_(True)
    assert correlation_loss(against, image, image).item() < 0
    bounded = correlation_loss(against, image, image, least=0.1)
    assert bounded.item() == pytest.approx(10, rel=1e-4)
    bounded.backward()
    assert against.grad is not None
    assert float(against.grad.abs().sum()) == 0


def test_the_trained_weights_fuse_as_a_method(scenes: Path, trained: Path) -> None:
    pair = find_pairs(load_card("samples"), scenes).pairs[0]
    weights = trained / "best.safetensors"
    network = trained_method(weights, "PSFusion")
    fuser = make_fuser(method_card("PSFusion"), files=[weights], device="cpu", trained=network)
    fused = next(iter(fuser.fuse([pair])))
    assert fused.shape == (80, 96, 3)
    assert np.ptp(fused) > 0


# --- ablations

GONE = {
    "w/o Mask": set(),
    "w/o SFP": {"visible_path", "infrared_path"},
    "w/o S2P2": {"segment"},
    "w/o PSFM": {"profound"},
}
TERMS_GONE = {
    "w/o SFP": {"visible fidelity", "infrared fidelity"},
    "w/o S2P2": {"semantic", "boundary", "binary"},
}


def test_all_ablations_are_looked_at() -> None:
    assert set(GONE) == set(ABLATIONS)


@pytest.mark.parametrize("variant", GONE)
def test_an_ablation_changes_its_part_alone(variant: str) -> None:
    full, other = system(), system(variant)
    ours, theirs = shapes(full.network), shapes(other.network)
    differing = {name.split(".")[0] for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    assert differing == GONE[variant]
    terms, fewer = (set(s(batch(), Moment("all"))) for s in (full, other))
    assert terms - fewer == TERMS_GONE.get(variant, set())
    assert fewer <= terms
    assert other.loss == replace(full.loss, intensity="unmasked" if variant == "w/o Mask" else "eq17")


@pytest.mark.parametrize("variant", GONE)
def test_an_ablation_learns(variant: str) -> None:
    learning = system(variant)
    optimiser = torch.optim.Adam(learning.parameters(), lr=1e-3)
    total = sum(learning(batch(), Moment("all")).values())
    total.backward()
    assert torch.isfinite(total)
    assert float(learning.network.fused_head.weight.grad.abs().sum()) > 0
    optimiser.step()
    assert all(bool(torch.isfinite(p).all()) for p in learning.parameters())


def test_what_network_and_loss_do_not_have_is_an_error() -> None:
    for changes, match in (
        ({"network": {"widht": 8}}, "width"),
        ({"loss": {"intensty": "code"}}, "intensity"),
        ({"variant": "w/o PSFP"}, "w/o SFP"),
    ):
        with pytest.raises(UnknownNameError, match=match):
            build_system(tiny(**changes))


# --- recipes


def test_the_paper_recipe_is_the_published_network_and_schedule() -> None:
    recipe = load_recipe("PSFusion", "paper")
    built = build_system(recipe)
    assert isinstance(built, PSFusionSystem)
    assert count_parameters(built.network) == 45_908_840
    assert built.loss == PAPER
    steps = 2500 * (1083 // 16)
    rates = [rate(recipe.optimiser, step, steps, 0) for step in (0, 500, steps // 2, steps)]
    assert rates == pytest.approx([1e-5, 1e-4, 1e-3 * (1 - (steps / 2 - 1000) / (steps - 1000)) ** 0.9, 0])


def test_the_backbones_begin_with_weights_from_a_file(tmp_path: Path) -> None:
    learning = system(weights={"backbone": "resnet.pth"})
    with pytest.raises(DataError, match=r"--checkpoints DIR"):
        learning.prepare(None)
    with pytest.raises(DataError, match=r"resnet\.pth.*ImageNet weights of ResNet-34"):
        learning.prepare(tmp_path)
    state = ResNetEncoder((1, 1, 1, 1), 16).state_dict()
    classifier = {"fc.weight": torch.zeros(1000, 128), "fc.bias": torch.zeros(1000)}
    torch.save(state | classifier, tmp_path / "resnet.pth")
    learning.prepare(tmp_path)
    for encoder in (learning.network.infrared, learning.network.visible):
        own = encoder.state_dict()
        assert torch.equal(own["levels.6.0.conv2.weight"], state["layer4.0.conv2.weight"])
        assert torch.equal(own["bn1.weight"], state["bn1.weight"])
    torch.save(ResNetEncoder((1, 1, 2, 1), 16).state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=r"resnet\.pth"):
        learning.prepare(tmp_path)


def test_the_small_recipe_has_all_heads() -> None:
    network = build_system(load_recipe("PSFusion")).network
    assert isinstance(network, PSFusion)
    with torch.inference_mode():
        outputs = network.eval().outputs(torch.rand(1, 1, 64, 64), torch.rand(1, 3, 64, 64))
    assert all(getattr(outputs, name) is not None for name in Outputs._fields)
