"""Training of SMR-Net: both networks in turns, what each learns from, its ablations, its recipes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_smrnet import TINY  # noqa: E402
from trained_tno import tno_means  # noqa: E402

from evalkit.data.card import load_card  # noqa: E402
from evalkit.data.images import write_png  # noqa: E402
from evalkit.data.pairs import find_pairs  # noqa: E402
from evalkit.data.samples.samples import write_scenes  # noqa: E402
from evalkit.errors import DataError, UnknownNameError  # noqa: E402
from evalkit.methods.checkpoints import CheckpointError, load_strictly, read_checkpoint  # noqa: E402
from evalkit.methods.fuse import make_fuser  # noqa: E402
from evalkit.methods.fusers import read_pair  # noqa: E402
from evalkit.methods.layers.resnet import ResNetEncoder  # noqa: E402
from evalkit.methods.network import count_parameters  # noqa: E402
from evalkit.methods.networks.smrnet import PCI, SMRNet, salient_objects  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402
from evalkit.metrics.saliency import saliency_dataset  # noqa: E402
from evalkit.training.data import as_tensors, read_scene  # noqa: E402
from evalkit.training.find_recipe import load_recipe  # noqa: E402
from evalkit.training.loop import gather, plan, train  # noqa: E402
from evalkit.training.papers.smrnet import (  # noqa: E402
    ABLATIONS,
    SMRNetSystem,
)
from evalkit.training.recipe import Recipe  # noqa: E402
from evalkit.training.system import Moment, build_system  # noqa: E402
from evalkit.training.trained import trained_method, training_scenes  # noqa: E402

SIDE = 64
ONE_ROUND = {"rounds": 1, "stages": TINY["stages"][:1]}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, 6, 7, 96, 80)
    return root


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two rounds."""
    return train(tiny(), scenes, tmp_path_factory.mktemp("run"), device="cpu").folder


def tiny(**changes: object) -> Recipe:
    return Recipe.model_validate(TINY | changes)


def batch() -> dict[str, object]:
    draw = torch.Generator().manual_seed(3)
    salient = torch.zeros(2, 1, SIDE, SIDE)
    salient[..., 16:40, 20:44] = 1
    return {
        "infrared": torch.rand(2, 1, SIDE, SIDE, generator=draw) * 0.5 + salient * 0.5,
        "visible": torch.rand(2, 3, SIDE, SIDE, generator=draw),
        "salient": salient,
    }


def system(variant: str = "", **changes: object) -> SMRNetSystem:
    torch.manual_seed(0)
    built = build_system(tiny(variant=variant, **changes))
    assert isinstance(built, SMRNetSystem)
    return built


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}


def has_gradient(network: torch.nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())


# --- the turns


def test_the_detector_joins_the_loss_of_the_fusion_in_the_second_round(trained: Path) -> None:
    with (trained / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    terms = {(row["round"], row["stage"]): set() for row in rows}
    for row in rows:
        terms[row["round"], row["stage"]].add(row["term"])
    assert terms == {
        ("0", "fuse"): {"total", "intensity", "texture"},
        ("0", "detect"): {"total", "saliency"},
        ("1", "fuse"): {"total", "intensity", "texture", "saliency"},
        ("1", "detect"): {"total", "saliency"},
    }
    found = [float(r["value"]) for r in rows if (r["stage"], r["split"], r["term"]) == ("detect", "train", "total")]
    assert len(found) == 4
    assert found[-1] < found[0]


def test_the_detector_learns_from_a_fused_image_without_its_graph() -> None:
    learning = system()
    sum(learning(batch(), Moment("detect", 1)).values()).backward()
    assert has_gradient(learning.network.detection)
    assert not has_gradient(learning.network.fusion)


def test_a_frozen_detector_passes_its_gradient_on_to_the_fusion() -> None:
    learning = system()
    learning.network.detection.eval().requires_grad_(False)
    before = {key: value.clone() for key, value in learning.network.detection.state_dict().items()}
    learning(batch(), Moment("fuse", 1))["saliency"].backward()
    assert has_gradient(learning.network.fusion)
    assert all(p.grad is None for p in learning.network.detection.parameters())
    assert all(torch.equal(before[key], value) for key, value in learning.network.detection.state_dict().items())


def test_a_stage_leaves_the_other_network_alone(scenes: Path, tmp_path: Path) -> None:
    recipe = tiny(**ONE_ROUND)
    after = read_checkpoint(train(recipe, scenes, tmp_path / "run", device="cpu").weights)
    torch.manual_seed(recipe.seed)
    before = build_system(recipe).network.state_dict()
    assert {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])} == {"fusion"}


def test_the_weights_of_the_terms_count() -> None:
    moment = Moment("fuse", 1)
    plain = system().eval()(batch(), moment)
    changed = system(loss={"alpha": 3, "saliency": 0.25}).eval()(batch(), moment)
    factors = {name: float(changed[name].detach() / plain[name].detach()) for name in plain}
    assert factors == pytest.approx({"intensity": 1, "texture": 3, "saliency": 0.25}, rel=1e-5)


def test_the_trained_weights_fuse_with_the_fusion_network_alone(scenes: Path, trained: Path) -> None:
    weights = trained / "best.safetensors"
    pair = find_pairs(load_card("samples"), scenes).pairs[0]
    network = trained_method(weights, "SMR-Net")
    fuser = make_fuser(method_card("SMR-Net"), files=[weights], device="cpu", trained=network)
    fused = next(iter(fuser.fuse([pair])))

    state = read_checkpoint(weights)
    assert {key.split(".")[0] for key in state} == {"fusion", "detection"}
    whole = build_system(tiny()).network.eval()
    load_strictly(whole, state, "here")
    method = SMRNetSystem.method(tiny())
    with torch.inference_mode():
        output = whole.fusion(*(x[None] for x in method.prepare(*read_pair(pair))))[0]
    assert np.array_equal(fused, method.finish(output, *read_pair(pair)))


# --- ablations


@pytest.mark.parametrize("variant", ABLATIONS)
def test_an_ablation_changes_its_part_of_the_detector_alone(variant: str) -> None:
    full, other = system().network, system(variant).network
    assert shapes(full.fusion) == shapes(other.fusion)
    ours, theirs = shapes(full.detection), shapes(other.detection)
    gone = {name.split(".")[0] for name in ours if name not in theirs}
    assert gone == {
        "none": {"slicing", "deformable"}, "BS": {"deformable"}, "DC": {"slicing"}
    }.get(variant, set())  # fmt: skip
    assert all(name in ours for name in theirs)
    changed = {name for name in theirs if theirs[name] != ours[name]}
    several = variant in ("bits 1-2", "bits 1-3", "bits 1-4")
    assert changed == ({f"slicing.{i}.from_planes.weight" for i in range(4)} if several else set())
    planes = {
        "bit 1": (1,), "bit 2": (2,), "bit 3": (3,), "bits 1-2": (1, 2), "bits 1-3": (1, 2, 3), "bits 1-4": (1, 2, 3, 4)
    }  # fmt: skip
    if "slicing" not in gone:
        assert {module.planes for module in other.detection.slicing} == {planes.get(variant, (4,))}


@pytest.mark.parametrize("variant", ABLATIONS)
def test_an_ablation_learns(variant: str) -> None:
    learning = system(variant)
    optimiser = torch.optim.Adam(learning.parameters(), lr=1e-3)
    for stage, part in (("detect", learning.network.detection), ("fuse", learning.network.fusion)):
        optimiser.zero_grad()
        total = sum(learning(batch(), Moment(stage, 1)).values())
        total.backward()
        assert torch.isfinite(total)
        assert has_gradient(part)
        optimiser.step()
    assert all(bool(torch.isfinite(p).all()) for p in learning.parameters())


def test_what_the_networks_do_not_have_is_an_error() -> None:
    for changes, match in (
        ({"network": {"fusions": {}}}, "fusion"),
        ({"network": {"fusion": {"chanels": 8}}}, "channels"),
        ({"network": {"detection": {"plane": [4]}}}, "planes"),
        ({"loss": {"beta": 1}}, "alpha"),
        ({"variant": "bit 5"}, "bit 4"),
    ):
        with pytest.raises(UnknownNameError, match=match):
            build_system(tiny(**changes))


# --- recipes


def test_the_paper_recipe_is_the_published_network_in_ten_rounds() -> None:
    recipe = load_recipe("SMR-Net", "paper")
    network = build_system(recipe).network
    assert isinstance(network, SMRNet)
    assert count_parameters(network) == count_parameters(SMRNet())
    assert [(leg.round, leg.stage.name) for leg in plan(recipe)] == [
        (i, name) for i in range(10) for name in ("fuse", "detect")
    ]
    for stage in recipe.stages:
        augment = stage.augment
        assert augment is not None
        assert (augment.resize or augment.crop) == 352
    assert load_card("VT5000").split("train").pairs == 2500


def test_the_paper_recipe_reads_vt5000_as_it_is_unpacked(tmp_path: Path) -> None:
    """Thermal images in pseudo-colour and soft masks in three channels, in a folder of the split."""
    folder, random = tmp_path / "data" / "VT5000" / "Train", np.random.default_rng(0)
    for i in range(3):
        for kind in ("RGB", "T"):
            write_png(folder / kind / f"{i}.png", random.integers(0, 256, (80, 96, 3), dtype=np.uint8))
        write_png(folder / "GT" / f"{i}.png", np.full((80, 96, 3), 251 * (i % 2), np.uint8))
    data = load_recipe("SMR-Net", "paper").data
    result = train(tiny(data=data.model_dump(), **ONE_ROUND), tmp_path / "data", tmp_path / "run", device="cpu")
    assert result.steps == 3
    pairs, _, _, _ = gather(load_recipe("SMR-Net", "paper"), tmp_path / "data")
    assert [as_tensors(read_scene(pair, data.labels), "")["salient"].max() for pair in pairs] == pytest.approx(
        [0, 251 / 255, 0]
    )


def test_the_encoder_begins_with_weights_from_a_file(tmp_path: Path) -> None:
    learning = system(weights={"encoder": "resnet.pth"})
    with pytest.raises(DataError, match=r"--checkpoints DIR"):
        learning.prepare(None)
    with pytest.raises(DataError, match=r"resnet\.pth.*ImageNet weights of ResNet-34"):
        learning.prepare(tmp_path)
    state = ResNetEncoder((1, 1, 1, 1), 8).state_dict()
    classifier = {"fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}
    torch.save(state | classifier, tmp_path / "resnet.pth")
    learning.prepare(tmp_path)
    assert all(torch.equal(state[key], value) for key, value in learning.network.detection.encoder.state_dict().items())
    torch.save(ResNetEncoder((1, 1, 2, 1), 8).state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=r"resnet\.pth"):
        learning.prepare(tmp_path)


def test_the_small_recipe_has_a_network_for_a_cpu() -> None:
    recipe = load_recipe("SMR-Net")
    network = build_system(recipe).network
    assert count_parameters(network) < 2e6
    assert isinstance(SMRNetSystem.method(recipe).build(), PCI)


def saliency_means(weights: Path, learnt_from: Path, held_out: Path, side: int) -> dict[str, dict[str, float]]:
    """S-measure and MAE on scenes: of the detector, of constant maps, and of the mean map of the training scenes."""
    network = build_system(load_recipe("SMR-Net")).network.eval()
    load_strictly(network, read_checkpoint(weights), str(weights))

    def read(root: Path) -> list:
        return [read_scene(pair, ["salient"]) for pair in find_pairs(load_card("samples"), root).pairs]

    usual = np.rint(np.mean([scene.maps["salient"] for scene in read(learnt_from)], axis=0)).astype(np.uint8)
    maps: dict[str, list] = {"BPS": [], "all 0": [], "all 1": [], "mean map": []}
    for scene in read(held_out):
        sample, truth = as_tensors(scene, ""), scene.maps["salient"]
        found = salient_objects(network, sample["infrared"][None], sample["visible"][None], side)[0, 0].numpy()
        predictions = (np.rint(found * 255).astype(np.uint8), 0 * truth, 0 * truth + 255, usual)
        for rows, prediction in zip(maps.values(), predictions, strict=True):
            rows.append((prediction, truth))
    return {
        name: {key: value for key, value in saliency_dataset(rows).scores.items() if key in ("S", "MAE")}
        for name, rows in maps.items()
    }


@pytest.mark.slow
def test_the_small_recipe_beats_the_average_and_constant_maps(shared: Path, tmp_path: Path) -> None:
    """Prints what docs/training.md quotes: pytest -m slow -s tests/test_training_smrnet.py"""
    recipe = load_recipe("SMR-Net")
    result = train(recipe, training_scenes(tmp_path / "train"), tmp_path / "run", device="cpu", tell=print)
    for stage in ("fuse", "detect"):
        losses = [loss for _, name, loss in result.losses if name == stage]
        assert min(losses[-2:]) < losses[0] or stage == "fuse"  # the fusion's loss gains a term on the way
    write_scenes(tmp_path / "held", 16, 0, 320, 240)  # another seed than the training scenes'
    side = 192  # the square that the detector learns from
    found = saliency_means(result.weights, tmp_path / "train", tmp_path / "held", side)
    print(f"{result.seconds:.0f} s", found)
    for constant in ("all 0", "all 1", "mean map"):
        assert found["BPS"]["S"] > found[constant]["S"] + 0.1, constant
        assert found["BPS"]["MAE"] < 0.85 * found[constant]["MAE"], constant
    means = tno_means("SMR-Net", result.weights, shared / "data")
    print(means)
    assert all(means["trained"][name] > means["average"][name] for name in means["average"])
