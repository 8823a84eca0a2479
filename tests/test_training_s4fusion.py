"""S4Fusion's training: what it learns from, its critic, its recipes and the rows of Table 3."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from evalkit.data.samples.samples import write_scenes
from evalkit.errors import DataError, EvalkitError, UnknownNameError
from evalkit.methods.checkpoints import CheckpointError
from evalkit.methods.fuse import make_fuser
from evalkit.methods.network import count_parameters
from evalkit.methods.networks.s4fusion import CPU_OPTIONS, Options, S4Fusion
from evalkit.methods.registry import method_card
from evalkit.training import critics
from evalkit.training.critics import ResNet50, load_classifier
from evalkit.training.find_recipe import load_recipe
from evalkit.training.loop import TrainingRun, gather, start_fabric, train
from evalkit.training.papers.s4fusion import (
    ABLATIONS,
    Critic,
    S4FusionSystem,
    information,
    information_scale,
    options_of,
    widened,
)
from evalkit.training.recipe import Recipe
from evalkit.training.schedule import rate
from evalkit.training.system import Moment, build_system
from evalkit.training.trained import trained_method

NETWORK = {
    "widths": [8, 16, 32],
    "depths": [1, 1, 1],
    "cmsa_blocks": 1,
    "states": 2,
    "cmsa_states": 2,
    "dead_weights": False,
}
TINY = {
    "method": "S4Fusion",
    "name": "tiny",
    "source": "a test",
    "data": {"datasets": {"samples": None}, "holdout": 2},
    "augment": {"crop": 25, "flip_horizontal": True},
    "network": NETWORK,
    "loss": {"perception": 0, "scale": 0.1},
    "batch": 2,
    "steps": 2,
    "stages": [{"name": "fuse", "epochs": 2}],
    "optimiser": {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.01, "schedule": {"kind": "cosine", "final": 0.4}},
}
JUDGED = TINY | {"loss": {"perception": 1}, "weights": {"critic": "resnet50-0676ba61.pth"}}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, 6, 7, 80, 64)
    return root


def tiny(base: dict = TINY, **changes: object) -> Recipe:
    return Recipe.model_validate(base | changes)


def batch(side: int = 25, count: int = 2) -> dict:
    random = torch.Generator().manual_seed(1)
    return {
        "infrared": torch.rand(count, 1, side, side, generator=random),
        "visible": torch.rand(count, 3, side, side, generator=random),
        "stems": ["a", "b"],
    }


def judged(variant: str = "", **changes: object) -> S4FusionSystem:
    """With a stand-in critic: a ResNet of the same kind, small and untrained."""
    torch.manual_seed(0)
    system = build_system(tiny(JUDGED, variant=variant, **changes))
    system.critic = Critic(ResNet50((1, 1, 1, 1), 4, 10))
    return system.train()


# --- the critic


def test_the_classifier_has_the_size_and_the_names_of_torchvisions() -> None:
    with torch.device("meta"):
        network = ResNet50()
    assert count_parameters(network) == 25_557_032  # torchvision's documentation of resnet50
    names = set(network.state_dict())
    assert len(names) == 320  # 161 parameters, 53 normalisations with three buffers each
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.downsample.1.bias",
        "layer4.2.conv3.weight",
        "fc.bias",
    } <= names
    assert network.layer3[0].conv2.stride == (2, 2)
    assert network.layer3[0].downsample[0].weight.shape == (1024, 512, 1, 1)
    shapes = [tuple(f.shape[1:]) for f in Critic(network).to("meta").features(torch.zeros(1, 1, 64, 96, device="meta"))]
    assert shapes == [(256, 16, 24), (512, 8, 12), (1024, 4, 6), (2048, 2, 3)]


def test_the_classifier_is_loaded_from_the_file_the_recipe_names(tmp_path: Path, monkeypatch) -> None:
    small = partial(ResNet50, (1, 1, 1, 1), 4, 10)
    monkeypatch.setattr(critics, "ResNet50", small)
    torch.manual_seed(3)
    source = small()
    state = {k: v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}  # as the old files
    torch.save(state, tmp_path / "resnet50-0676ba61.pth")
    system = build_system(tiny(JUDGED))
    system.load_critics(tmp_path)
    image = torch.rand(1, 1, 32, 32)
    expected = Critic(source)(image)
    assert torch.equal(system.train().critic(image), expected)
    assert not any(p.requires_grad for p in system.critic.parameters())
    del state["fc.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing: fc\.bias"):
        load_classifier(state, tmp_path / "x.pth")


def test_a_recipe_with_a_critic_says_what_is_missing(tmp_path: Path) -> None:
    system = build_system(tiny(JUDGED))
    with pytest.raises(DataError, match="--checkpoints"):
        system.load_critics(None)
    with pytest.raises(DataError, match="no file"):
        system.load_critics(tmp_path)
    with pytest.raises(EvalkitError, match="no critic"):
        build_system(tiny(loss={"perception": 1}))


def test_a_run_that_goes_on_loads_its_critic_again(scenes: Path, tmp_path: Path, monkeypatch) -> None:
    loaded = []
    monkeypatch.setattr(S4FusionSystem, "load_critics", lambda self, weights: loaded.append(weights))
    recipe = tiny()
    train(recipe, scenes, tmp_path / "run", device="cpu", weights=tmp_path)
    TrainingRun(recipe, start_fabric("cpu", 1, "32-true"), scenes, tmp_path / "run", tmp_path, 0, print)
    assert loaded == [tmp_path, tmp_path]


def test_the_critic_judges_and_stays_as_it_is() -> None:
    system = judged()
    before = {k: v.clone() for k, v in system.critic.state_dict().items()}
    optimiser = torch.optim.AdamW(system.network.parameters(), lr=1e-3)
    terms = system(batch(), Moment("fuse"))
    assert list(terms) == ["perception", "intensity", "structure", "gradient"]
    terms["perception"].backward()
    gradients = [p.grad for p in system.network.parameters() if p.grad is not None]
    assert max(float(g.abs().max()) for g in gradients) > 0
    assert all(p.grad is None for p in system.critic.parameters())
    optimiser.step()
    after = system.critic.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not any(k.startswith("critic") for k in system.network.state_dict())


# --- information


def test_the_scale_of_a_batch_is_found_or_given() -> None:
    system, sample = judged(), batch()
    system(sample, Moment("fuse"))
    known = system.information(sample["infrared"]), system.information(sample["visible"][:, :1])
    assert known[0].shape == (2,)
    gray = (sample["visible"] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    expected = information_scale(system.information(sample["infrared"]), system.information(gray))
    assert torch.isclose(system.noted["information scale"], expected)
    fixed = judged(loss={"perception": 1, "scale": 0.25})
    fixed(sample, Moment("fuse"))
    assert float(fixed.noted["information scale"]) == 0.25


def test_without_a_critic_the_image_itself_informs() -> None:
    system, sample = build_system(tiny()), batch()
    assert torch.equal(system.information(sample["infrared"]), information([sample["infrared"]]))
    sample["infrared"] = torch.full_like(sample["infrared"], 0.5)  # nothing to see
    system(sample, Moment("fuse"))
    assert float(system.noted["infrared weight"]) < 0.5


# --- Table 3


@pytest.mark.parametrize("variant", ABLATIONS)
def test_a_variant_learns(variant: str) -> None:
    system = judged(variant)
    terms = system(batch(), Moment("fuse"))
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    gradients = {name: p.grad for name, p in system.network.named_parameters()}
    still = {name for name, g in gradients.items() if g is None or not g.abs().max() > 0}
    assert not still


@pytest.mark.parametrize("variant", ABLATIONS)
def test_a_variant_differs_in_the_named_part_only(variant: str) -> None:
    full, other = judged("Exp.7"), judged(variant)
    changed = {k for k, v in asdict(full.network.options).items() if asdict(other.network.options)[k] != v}
    expected = {"Exp.1": {"fusion", "widths"}, "Exp.5": {"marks"}, "Exp.6": set(), "Exp.7": set()}
    assert changed == expected.get(variant, {"fusion"})
    names = [set(system(batch(), Moment("fuse"))) for system in (full, other)]
    assert names[0] - names[1] == ({"perception"} if variant == "Exp.6" else set())
    if variant == "Exp.6":  # the information is the critic's all the same
        assert torch.equal(full.noted["infrared weight"], other.noted["infrared weight"])


def test_addition_is_widened_to_as_many_parameters() -> None:
    assert widened(Options(dead_weights=False)) == pytest.approx((75, 150, 300), abs=8)
    options, _ = options_of(tiny(JUDGED, variant="Exp.1"))
    full, _ = options_of(tiny(JUDGED))
    counts = []
    with torch.device("meta"):
        for width in (options.widths[0] - 1, options.widths[0], options.widths[0] + 1):
            changed = replace(options, widths=(width, 2 * width, 4 * width))
            counts.append(abs(count_parameters(S4Fusion(changed)) - count_parameters(S4Fusion(full))))
    assert counts[1] == min(counts)


def test_a_variant_that_would_not_differ_is_refused() -> None:
    with pytest.raises(EvalkitError, match="does not have anyway"):
        load_recipe("S4Fusion", "small", "Exp.6")
    with pytest.raises(UnknownNameError, match="variant"):
        load_recipe("S4Fusion", "small", "Exp.8")
    assert load_recipe("S4Fusion", "small", "Exp.5").variant == "Exp.5"
    assert load_recipe("S4Fusion", "paper", "Exp.6").variant == "Exp.6"


# --- recipes


def test_the_paper_recipe_is_the_published_network_and_schedule() -> None:
    recipe = load_recipe("S4Fusion", "paper")
    options, loss = options_of(recipe)
    assert options == Options()
    assert (loss.perception, loss.intensity, loss.structure, loss.gradient, loss.scale) == (1, 15, 15, 15, None)
    assert (recipe.batch, recipe.stages[0].epochs, recipe.augment.crop) == (20, 800, 229)
    found = [rate(recipe.optimiser, step, 1000, 0) for step in (0, 49, 999)]
    assert found == pytest.approx([3e-4 + 1.2e-3 / 50, 1.5e-3, 6e-4])
    assert recipe.data.shares == {"M3FD": 0.7, "RoadScene": 0.7}
    with torch.device("meta"):
        assert count_parameters(S4FusionSystem.method(recipe).build()) == 3_562_981


def test_the_small_recipe_has_the_sizes_for_a_cpu() -> None:
    options, loss = options_of(load_recipe("S4Fusion"))
    assert options == replace(CPU_OPTIONS, wiring="paper", dead_weights=False)
    assert loss.perception == 0
    assert loss.scale


def test_weight_decay_leaves_the_recurrence_alone(scenes: Path, tmp_path: Path) -> None:
    run = TrainingRun(tiny(), start_fabric("cpu", 1, "32-true"), scenes, tmp_path / "run", None, 0, print)
    decayed, kept = run.optimisers["network"].param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.01, 0)
    named = dict(run.system.network.named_parameters())
    expected = [p for name, p in named.items() if name.rsplit(".", 1)[1] in ("A_log", "D")]
    assert {id(p) for p in kept["params"]} == {id(p) for p in expected}
    assert len(decayed["params"]) + len(kept["params"]) == len(named)


def test_a_share_of_one_data_set_leaves_the_others_whole(scenes: Path) -> None:
    data = {"datasets": {"samples": None}, "shares": {"samples": 0.5}}
    assert len(gather(tiny(data=data), scenes)[0]) == 3
    assert len(gather(tiny(data=data | {"shares": {"M3FD": 0.5}}), scenes)[0]) == 6


def test_trained_weights_fuse_and_the_log_has_the_weights_of_the_images(scenes: Path, tmp_path: Path) -> None:
    from evalkit.data.card import load_card
    from evalkit.data.pairs import find_pairs

    result = train(tiny(), scenes, tmp_path / "run", device="cpu")
    log = (tmp_path / "run" / "log.csv").read_text()
    assert "information scale" in log
    assert "infrared weight" in log
    network = trained_method(result.weights, "S4Fusion")
    fuser = make_fuser(method_card("S4Fusion"), files=[result.weights], device="cpu", trained=network)
    fused = next(iter(fuser.fuse([find_pairs(load_card("samples"), scenes).pairs[0]])))
    assert fused.shape[:2] == (64, 80)
