"""The training loop: schedules, samples, learning, and going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from test_pretrained import filled, resnet_shapes
from test_reproduce import run
from tiny_smrnet import TINY as SMRNET

from evalkit.data.images import read_image, write_png
from evalkit.data.pairs import ImagePair
from evalkit.data.samples.samples import write_scenes
from evalkit.errors import DataError, EvalkitError, UnknownNameError
from evalkit.methods.checkpoints import read_checkpoint
from evalkit.methods.fuse import make_fuser
from evalkit.methods.registry import method_card
from evalkit.methods.states import read_state, to_state
from evalkit.training.data import Pairs, SamplePlace, TrainingPair, as_tensors, augmented, is_flat, places
from evalkit.training.find_recipe import load_recipe, parse, recipes
from evalkit.training.loop import TrainingError, TrainingRun, plan, train
from evalkit.training.recipe import Augment, Optimiser, RateSchedule, Recipe
from evalkit.training.schedule import plateaus, rate
from evalkit.training.state import read_recipe, save_weights
from evalkit.training.system import System, build_system, register_system
from evalkit.training.trained import trained_method

TINY = {
    "method": "SMFNet",
    "name": "tiny",
    "source": "a test",
    "data": {"datasets": {"samples": None}, "holdout": 2},
    "augment": {"crop": 24, "flip_horizontal": True, "rotate": True},
    "network": {"width": 8, "heads": 2, "base_blocks": 1, "bottleneck": 2, "dilations": [1, 2, 3]},
    "batch": 2,
    "steps": 3,
    "stages": [
        {"name": "reconstruct", "epochs": 1, "parts": ["encoder", "graph", "decoder"]},
        {"name": "fuse", "epochs": 2},
    ],
    "optimiser": {"lr": 1e-3, "clip": 1.0, "schedule": {"kind": "cosine", "final": 0.1}},
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, 6, 7, 80, 64)
    return root


def tiny(**changes: object) -> Recipe:
    return Recipe.model_validate(TINY | changes)


# --- schedules


def test_a_step_halves_every_so_many_epochs_down_to_the_floor() -> None:
    settings = Optimiser(lr=1e-4, schedule=RateSchedule(kind="step", every=20, factor=0.5, floor=1e-6))
    found = [rate(settings, 0, 1, epoch) for epoch in (0, 19, 20, 40, 400)]
    assert found == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5, 1e-6])


def test_warm_up_and_cosine_go_from_start_over_peak_to_final() -> None:
    # S4Fusion: 3e-4, 1.5e-3, 6e-4
    settings = Optimiser(lr=1.5e-3, schedule=RateSchedule(kind="cosine", warmup=0.05, start=0.2, final=0.4))
    found = [rate(settings, step, 1000, 0) for step in (0, 25, 50, 525, 1000)]
    assert found == pytest.approx([3e-4, 9e-4, 1.5e-3, (1.5e-3 + 6e-4) / 2, 6e-4])


def test_a_geometric_warm_up_multiplies_and_poly_ends_at_zero() -> None:
    settings = Optimiser(
        lr=1e-3, schedule=RateSchedule(kind="poly", power=0.9, warmup=1000, start=1e-2, geometric=True)
    )
    found = [rate(settings, step, 10_000, 0) for step in (0, 500, 5000, 10_000)]
    assert found == pytest.approx([1e-5, 1e-4, 1e-3 * (5 / 9) ** 0.9, 0])


def test_plateaus_agree_with_pytorch() -> None:
    random = np.random.default_rng(0)
    losses = (np.exp(-np.arange(60) / 8) + random.normal(0, 0.02, 60)).tolist()
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=3, min_lr=0, eps=0)
    for count in range(1, len(losses) + 1):
        reference.step(losses[count - 1])
        assert 0.1 ** plateaus(losses[:count], 3) == pytest.approx(optimiser.param_groups[0]["lr"])


# --- samples


def drawn(height: int = 40, width: int = 56) -> TrainingPair:
    random = np.random.default_rng(3)
    infrared = random.integers(0, 256, (height, width), dtype=np.uint8)
    labels = (infrared > 128).astype(np.uint8)
    box = np.array([[1, 10, 5, 20, 30]], np.float32)
    return TrainingPair(infrared, np.repeat(infrared[..., None], 3, axis=2), {"classes": labels}, box)


CHANGES = {
    "upside down": lambda scene: scene.flipped(0),
    "mirrored": lambda scene: scene.flipped(1),
    **{f"turned {q}": lambda scene, q=q: scene.turned(q) for q in (1, 2, 3)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_boxes_follow_their_pixels(change) -> None:
    scene = drawn()
    scene.infrared[:] = 0
    scene.infrared[5:30, 10:20] = 255  # the box
    found = change(scene)
    rows, columns = np.nonzero(found.infrared)
    assert found.boxes.tolist() == [[1, columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]


def test_images_and_labels_are_augmented_alike() -> None:
    augment = Augment(crop=16, flip_horizontal=True, flip_vertical=True, rotate=True)
    seen = set()
    for seed in range(40):
        found = augmented(drawn(), augment, np.random.default_rng(seed))
        assert np.array_equal(found.infrared > 128, found.maps["classes"] == 1)
        assert np.array_equal(found.visible[..., 1], found.infrared)
        assert found.infrared.shape == (16, 16)
        seen.add(found.infrared.tobytes())
    assert len(seen) > 35


def test_a_cut_keeps_the_part_of_a_box_that_is_in_it() -> None:
    assert drawn().cut(10, 15, 16, 16).boxes.tolist() == [[1, 0, 0, 5, 16]]
    assert len(drawn().cut(0, 40, 16, 16).boxes) == 0


def test_tensors_have_units_and_types() -> None:
    sample = as_tensors(drawn(), "a")
    assert sample["infrared"].shape == (1, 40, 56)
    assert sample["visible"].shape == (3, 40, 56)
    assert float(sample["infrared"].max()) <= 1
    assert sample["classes"].dtype == torch.int64


def test_a_sample_does_not_depend_on_what_was_read_before(scenes: Path) -> None:
    from evalkit.data.card import load_card
    from evalkit.data.pairs import find_pairs

    pairs = find_pairs(load_card("samples"), scenes).pairs
    augment = Augment(crop=24, flip_horizontal=True)
    one, other = (Pairs(pairs, augment, seed=1) for _ in range(2))
    wanted = SamplePlace(3, 5, 2)
    for _ in range(3):
        other[SamplePlace(0, 0, 0)]
    assert torch.equal(one[wanted]["infrared"], other[wanted]["infrared"])
    assert not torch.equal(one[wanted]["infrared"], one[SamplePlace(4, 5, 2)]["infrared"])


def test_an_epoch_sees_every_item_once() -> None:
    batches = places(10, 3, None, 0, 0)
    items = [place.item for batch in batches for place in batch]
    assert len(batches) == 3
    assert len(set(items)) == 9
    assert places(10, 3, None, 0, 1) != batches
    again = [place.item for batch in places(4, 2, 6, 0, 0) for place in batch]
    assert sorted(again) == sorted([0, 1, 2, 3] * 3)
    with pytest.raises(DataError, match="do not fill a batch"):
        places(2, 3, None, 0, 0)


def test_squares_on_a_grid_leave_out_the_flat_ones(tmp_path: Path) -> None:
    image = np.zeros((64, 96), np.uint8)
    image[:, :32] = np.random.default_rng(0).integers(0, 256, (64, 32))
    image[:, 32:] = 100
    for name in ("ir.png", "vi.png"):
        write_png(tmp_path / name, image)
    pair = ImagePair("a", tmp_path / "ir.png", tmp_path / "vi.png")
    data = Pairs([pair], Augment(crop=32, stride=32, drop_flat=0.1))
    assert data.squares == [(0, 0, 0), (0, 32, 0)]
    assert is_flat(np.zeros((4, 4)), 0.1)


def test_images_smaller_than_the_square_are_passed_over(tmp_path: Path) -> None:
    for name, side in (("small", 16), ("large", 40)):
        for role in ("ir", "vi"):
            write_png(tmp_path / f"{name}-{role}.png", np.full((side, side), side, np.uint8))
    pairs = [ImagePair(n, tmp_path / f"{n}-ir.png", tmp_path / f"{n}-vi.png") for n in ("small", "large")]
    assert Pairs(pairs, Augment(crop=32))[SamplePlace(0, 0, 0)]["stem"] == "large"
    with pytest.raises(DataError, match="no pair is as large"):
        Pairs(pairs[:1], Augment(crop=32))[SamplePlace(0, 0, 0)]


# --- recipes


def test_every_recipe_is_valid_and_names_its_source() -> None:
    for name, recipe in recipes().items():
        assert name == f"{recipe.method}-{recipe.name}"
        assert len(recipe.source) > 40
        assert plan(recipe)


def test_mistakes_in_a_recipe_name_the_field() -> None:
    with pytest.raises(DataError, match=r"batch"):
        parse("method: SMFNet\nname: x\nsource: y\nbatch: 0\nstages: []\ndata: {datasets: {}}\noptimiser: {lr: 1}", "x")
    with pytest.raises(DataError, match="mapping"):
        parse("- 1", "x")
    with pytest.raises(UnknownNameError, match="SMFNet"):
        load_recipe("SMFnets")
    with pytest.raises(UnknownNameError, match="small"):
        load_recipe("SMFNet", "smal")
    with pytest.raises(UnknownNameError, match="AE3"):
        load_recipe("SMFNet", "small", "AE33")


def test_an_option_the_network_does_not_have_is_an_error(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="width"):
        train(tiny(network={"widht": 8}), scenes, tmp_path / "run", device="cpu")


# --- the loop


def test_training_writes_weights_log_and_curves(scenes: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    recipe = tiny(stages=[{"name": "fuse", "epochs": 4}], steps=6)
    result = train(recipe, scenes, tmp_path / "run", device="cpu", tell=lines.append)
    assert len(lines) == 4
    assert result.steps == 24
    assert result.losses[-1][2] < result.losses[0][2]
    found, about = read_recipe(result.weights)
    assert found == recipe
    assert about["epochs"] >= 1
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert log[0] == "epoch,round,stage,split,term,value"
    assert {line.split(",")[3] for line in log[1:]} == {"train", "validation"}


def test_terms_are_fetched_once_an_epoch(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the log holds what adding them up one by one gives."""
    fetched, values = [], {}
    convert, learn = torch.Tensor.__float__, TrainingRun.learn

    def counted(tensor: torch.Tensor) -> float:
        fetched.append(tensor)
        return convert(tensor)

    def kept(run: TrainingRun, *rest: object) -> dict:
        terms = learn(run, *rest)
        for name, value in terms.items():
            values[name] = values.get(name, 0.0) + value.tolist()
        return terms

    monkeypatch.setattr(torch.Tensor, "__float__", counted)
    monkeypatch.setattr(TrainingRun, "learn", kept)
    recipe = tiny(stages=[{"name": "fuse", "epochs": 1}], steps=5, data={"datasets": {"samples": None}})
    train(recipe, scenes, tmp_path / "run", device="cpu")
    assert len(fetched) <= 3 * len(values)  # at the end of the epoch, and for the state that is saved
    rows = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()[1:]]
    assert {row[4]: row[5] for row in rows} == {name: repr(value / 5) for name, value in values.items()}


def test_trained_weights_fuse_as_a_method(scenes: Path, tmp_path: Path) -> None:
    from evalkit.data.card import load_card
    from evalkit.data.pairs import find_pairs

    result = train(tiny(), scenes, tmp_path / "run", device="cpu")
    network = trained_method(result.weights, "SMFNet")
    fuser = make_fuser(method_card("SMFNet"), files=[result.weights], device="cpu", trained=network)
    pair = find_pairs(load_card("samples"), scenes).pairs[0]
    fused = next(iter(fuser.fuse([pair])))
    assert fused.shape == (64, 80, 3)
    with pytest.raises(DataError, match="is of SMFNet"):
        trained_method(result.weights, "PSFusion")

    # the command takes the same file, for its own method alone
    arguments = ["fuse", "smfnet", "--data-root", scenes, "--dataset", "samples", "--out", tmp_path, "--checkpoint"]
    code, _, error = run(*arguments, result.weights, "--device", "cpu")
    assert code == 0, error
    assert np.array_equal(read_image(tmp_path / "SMFNet" / "samples" / f"{pair.stem}.png"), fused)
    code, _, error = run("fuse", "PSFusion", *arguments[2:], result.weights)
    assert code == 2
    assert "is of SMFNet, not of PSFusion" in error


def test_stage_one_leaves_the_fusion_layers_alone(scenes: Path, tmp_path: Path) -> None:
    recipe = tiny(stages=[{"name": "reconstruct", "epochs": 1, "parts": ["encoder", "graph", "decoder"]}])
    result = train(recipe, scenes, tmp_path / "run", device="cpu")
    torch.manual_seed(recipe.seed)
    before, after = build_system(recipe).network.state_dict(), read_checkpoint(result.weights)
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"encoder", "graph", "decoder"}


def test_mixed_precision_trains_weights_in_float32(scenes: Path, tmp_path: Path) -> None:
    result = train(tiny(precision="bf16-mixed"), scenes, tmp_path / "half", device="cpu")
    assert len(result.losses) == 3
    assert all(np.isfinite(loss) for _, _, loss in result.losses)
    state = read_checkpoint(result.weights)
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}


def test_workers_do_not_change_the_result(scenes: Path, tmp_path: Path) -> None:
    results = [train(tiny(), scenes, tmp_path / str(n), device="cpu", workers=n) for n in (0, 2)]
    assert states_equal(*(result.folder / "last.safetensors" for result in results))


def test_the_mean_of_the_weights_lags_behind_them(scenes: Path, tmp_path: Path) -> None:
    plain = train(tiny(), scenes, tmp_path / "plain", device="cpu")
    mean = train(tiny(ema=0.9), scenes, tmp_path / "mean", device="cpu")
    a, b = (read_checkpoint(r.folder / "last.safetensors") for r in (plain, mean))
    assert a.keys() == b.keys()
    assert not states_equal(plain.folder / "last.safetensors", mean.folder / "last.safetensors")
    resumed = read_state(mean.folder / "resume.safetensors")
    assert torch.equal(resumed["network"]["encoder.embed.weight"], a["encoder.embed.weight"])


def test_a_loss_that_is_not_finite_stops_and_keeps_the_batch(scenes: Path, tmp_path: Path) -> None:
    recipe = tiny(optimiser={"kind": "sgd", "lr": 1e12})
    with pytest.raises(TrainingError, match=r"not finite in epoch .*not-finite\.safetensors"):
        train(recipe, scenes, tmp_path / "run", device="cpu")
    batch = read_state(tmp_path / "run" / "not-finite.safetensors")
    assert batch["infrared"].shape == (2, 1, 24, 24)
    assert len(batch["stems"]) == 2


PLUGIN = """
from pathlib import Path

import torch
from torch import nn

from evalkit.methods.layers.luminance import luminance
from evalkit.methods.network import NetworkMethod, rounded, unit_gray_pair
from evalkit.training.find_recipe import register_recipe
from evalkit.training.system import System, register_system
from evalkit.training.terms import intensity_loss


class Mix(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(2, 1, 1)

    def forward(self, infrared, visible):
        return self.mix(torch.cat((infrared, visible), dim=1)).sigmoid()


class MixSystem(System):
    name = "Mix"

    def __init__(self, recipe):
        super().__init__(recipe)
        self.network = Mix()

    def forward(self, batch, moment):
        infrared, visible = batch["infrared"], luminance(batch["visible"])
        return {"intensity": intensity_loss(self.network(infrared, visible), infrared, visible)}

    @classmethod
    def method(cls, recipe):
        return NetworkMethod(Mix, unit_gray_pair, lambda output, infrared, visible: rounded(output[0].numpy() * 255))


register_system(MixSystem)
register_recipe(Path(__file__).with_name("mix.yaml"))
"""


def test_a_network_and_its_recipe_come_from_a_plug_in(tmp_path: Path) -> None:
    (tmp_path / "mix.py").write_text(PLUGIN)
    content = {"method": "Mix", "name": "tiny", "source": "a test", "data": {"datasets": {"samples": None}}}
    content |= {"augment": {"crop": 24}, "batch": 2, "steps": 5, "stages": [{"name": "fuse", "epochs": 2}]}
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(content | {"optimiser": {"lr": 0.05}}))
    arguments = ["train", "mix", "--recipe", "tiny", "--sample", "--device", "cpu", "--out", str(tmp_path / "out")]
    code, _, error = run(*arguments)
    assert code == 2
    assert "unknown trainable method 'mix'" in error
    named = os.environ | {"EVALKIT_PLUGINS": str(tmp_path / "mix.py")}
    command = [sys.executable, "-m", "evalkit.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=named, check=False)
    assert done.returncode == 0, done.stderr
    recipe, _ = read_recipe(tmp_path / "out" / "best.safetensors") or pytest.fail("no recipe in the weights")
    assert (recipe.method, recipe.name) == ("Mix", "tiny")
    state = read_checkpoint(tmp_path / "out" / "best.safetensors")
    assert {key: tuple(value.shape) for key, value in state.items()} == {"mix.weight": (1, 2, 1, 1), "mix.bias": (1,)}
    log = [line.split(",") for line in (tmp_path / "out" / "log.csv").read_text().splitlines()]
    first, last = (float(row[5]) for row in log if row[4] == "intensity")
    assert last < first


def test_a_trainable_network_is_registered_once() -> None:
    class Other(System):
        name = "smfnet"

    with pytest.raises(EvalkitError, match="'smfnet', which evalkit has registered as 'SMFNet'"):
        register_system(Other)
    with pytest.raises(UnknownNameError, match="SMFNet"):
        build_system(tiny(method="SMFNett"))


def test_another_recipe_in_the_same_folder_is_refused(scenes: Path, tmp_path: Path) -> None:
    train(tiny(), scenes, tmp_path / "run", device="cpu")
    with pytest.raises(DataError, match="another recipe"):
        train(tiny(seed=1), scenes, tmp_path / "run", device="cpu")
    with pytest.raises(DataError, match="--existing"):
        train(tiny(), scenes, tmp_path / "run", device="cpu", existing="fail")
    assert train(tiny(), scenes, tmp_path / "run", device="cpu").steps == 0
    assert train(tiny(seed=1), scenes, tmp_path / "run", device="cpu", existing="replace").steps == 9


def test_a_missing_data_set_or_too_few_pairs_are_told(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few"):
        train(tiny(data={"datasets": {"samples": None}, "holdout": 6}), scenes, tmp_path / "run", device="cpu")
    with pytest.raises(DataError, match="M3FD"):
        train(tiny(data={"datasets": {"M3FD": None}}), scenes, tmp_path / "run", device="cpu")
    stages = [{"name": "fuse", "epochs": 1, "parts": ["encodr"]}]
    with pytest.raises(DataError, match="names parts encodr"):
        train(tiny(stages=stages), scenes, tmp_path / "run", device="cpu")


def states_equal(one: Path, other: Path) -> bool:
    a, b = read_checkpoint(one), read_checkpoint(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


RUN = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from evalkit.training import loop
from evalkit.training.recipe import Recipe
loop.SAVE_EVERY = 0.0  # after every step, so that a kill is always in the middle of an epoch that was saved in part
recipe = Recipe.model_validate_json(Path(sys.argv[1]).read_text())
def seen(items, total, text):
    for item in items:
        print("step", flush=True)
        yield item
weights = Path(sys.argv[4]) if len(sys.argv) > 4 else None
loop.train(recipe, Path(sys.argv[2]), Path(sys.argv[3]), weights=weights, device="cpu", progress=seen)
print("done", flush=True)
"""


def killed_and_resumed(recipe: Recipe, root: Path, folder: Path, after: int, *weights: str) -> int:
    """Train in folder/killed, killed with SIGKILL after so many steps and started again; how many steps were left."""
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    command = [sys.executable, "-c", RUN, str(folder / "recipe.json"), str(root), str(folder / "killed"), *weights]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    for _ in range(after):
        assert killed.stdout.readline() == "step\n"
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    resumed = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert resumed.returncode == 0, resumed.stderr
    return resumed.stdout.count("step")


def same_run(one: Path, other: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        assert states_equal(one / name, other / name), name
    assert (one / "log.csv").read_text() == (other / "log.csv").read_text()


@pytest.mark.parametrize("after", [2, 5])
def test_a_killed_run_resumes_to_the_same_weights(scenes: Path, tmp_path: Path, after: int) -> None:
    recipe = tiny(steps=4, ema=0.9)
    train(recipe, scenes, tmp_path / "whole", device="cpu")
    assert 0 < killed_and_resumed(recipe, scenes, tmp_path, after) < 12
    same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_a_run_at_full_width_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """SMR-Net by `paper`, whose step needs the least memory of the five: all sizes as published, two steps a stage."""
    write_scenes(tmp_path / "data", 8, 7, 640, 480)
    weights = tmp_path / "weights" / "resnet34-b627a593.pth"
    weights.parent.mkdir()
    torch.save(filled(resnet_shapes((3, 4, 6, 3), False)), weights)
    paper = load_recipe("SMR-Net", "paper")
    data = paper.data.model_copy(update={"datasets": {"samples": None}})
    recipe = paper.model_copy(update={"data": data, "steps": 2, "rounds": 1})
    assert (recipe.network, recipe.batch, len(plan(recipe))) == (paper.network, 4, 2)
    torch.set_num_threads(1)  # as RUN does
    train(recipe, tmp_path / "data", tmp_path / "whole", weights=weights.parent, device="cpu")
    assert killed_and_resumed(recipe, tmp_path / "data", tmp_path, 1, str(weights.parent)) == 3
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_the_command_trains_on_sample_scenes_and_shows_recipes(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from evalkit.cli import main

    fields = json.loads(tiny().model_dump_json())
    (tmp_path / "tiny.yaml").write_text(json.dumps(fields))
    runner = CliRunner()
    out = runner.invoke(main, ["train", "SMFNet", "--recipe", str(tmp_path / "tiny.yaml"), "--sample", "--json",
                               "--out", str(tmp_path / "run"), "--device", "cpu"])  # fmt: skip
    assert out.exit_code == 0, out.output
    assert json.loads(out.stdout)["steps"] == 9
    (tmp_path / "run/log.csv").unlink()
    again = runner.invoke(main, ["train", "SMFNet", "--recipe", str(tmp_path / "tiny.yaml"), "--sample",
                                 "--out", str(tmp_path / "run"), "--device", "cpu"])  # fmt: skip
    assert again.exit_code == 0, again.exception
    assert "its log is gone" in again.stdout
    shown = runner.invoke(main, ["train", "SMFNet", "--recipe", "paper", "--show"])
    assert "batch: 6" in shown.stdout
    wrong = runner.invoke(main, ["train", "SMFNett"])
    assert wrong.exit_code == 2
    assert "SMFNet" in wrong.output


def test_a_training_that_fails_is_a_missing_value_and_not_the_end_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import evalkit.training.loop

    def diverging(*_: object, **__: object) -> None:
        raise TrainingError("the loss is not finite")

    monkeypatch.setattr(evalkit.training.loop, "train", diverging)
    options = {"sample": True, "train": True, "methods": ["SMFNet", "average"], "workers": 1}
    table = evalkit.reproduce("smfnet-table1", out=tmp_path / "run", **options)
    assert table.cell("samples", "SMFNet", "EN").reason == "cannot be trained: the loss is not finite"
    assert table.cell("samples", "average", "EN").value is not None


@pytest.mark.slow
def test_two_processes_average_their_gradients(scenes: Path, tmp_path: Path) -> None:
    """Two processes with a batch of 1 each learn what one with a batch of 2 does, but for rounding.

    SMR-Net's fusion network has no BatchNorm, whose statistics are of each process's own batch.
    """
    fuse = {"name": "fuse", "epochs": 1, "parts": ["fusion"], "augment": {"crop": 32}}
    fields = SMRNET | {"rounds": 1, "stages": [fuse], "optimiser": {"kind": "sgd", "lr": 0.1}}
    script = RUN.replace('device="cpu"', 'device="cpu", devices=int(sys.argv[4])')
    (tmp_path / "run.py").write_text(script)
    for devices, batch in ((1, 2), (2, 1), (1, 1)):
        name = f"{devices} of {batch}"
        recipe = Recipe.model_validate(fields | {"batch": batch, "steps": 3})
        (tmp_path / f"{name}.json").write_text(recipe.model_dump_json())
        arguments = [tmp_path / f"{name}.json", scenes, tmp_path / name, devices]
        command = [sys.executable, str(tmp_path / "run.py"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two, less = (read_checkpoint(tmp_path / n / "last.safetensors") for n in ("1 of 2", "2 of 1", "1 of 1"))
    learned = [key for key in one if key.startswith("fusion.")]
    for key in learned:
        assert torch.allclose(one[key], two[key], atol=1e-6), key
    assert max(float((one[key] - less[key]).abs().max()) for key in learned) > 1e-3


def test_the_same_weights_are_the_same_file(tmp_path: Path) -> None:
    state = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(1)}
    files = set()
    for _ in range(20):  # safetensors writes metadata in an order of chance
        save_weights(tmp_path / "weights.safetensors", state, tiny(source="α"), {"seed": 1})
        files.add((tmp_path / "weights.safetensors").read_bytes())
    assert len(files) == 1
    recipe, about = read_recipe(tmp_path / "weights.safetensors")
    assert recipe == tiny(source="α")
    assert about == {"seed": 1}
    back = read_checkpoint(tmp_path / "weights.safetensors")
    assert all(torch.equal(back[key], value) for key, value in state.items())


# --- states that are damaged


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", ["last", "both", "zeros"])
def test_a_damaged_state_goes_back_or_starts_again(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """To the same weights in the end, and it is said."""
    train(tiny(), scenes, tmp_path / "whole", device="cpu")

    def cut(items, total, text):  # type: ignore[no-untyped-def]
        for count, item in enumerate(items):
            if count == 7:
                raise KeyboardInterrupt
            yield item

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), scenes, run, device="cpu", progress=cut)
    last, before = run / "resume.safetensors", run / "resume-before.safetensors"
    assert read_state(last)["progress"]["epoch"] == 2
    assert read_state(before)["progress"]["epoch"] == 1
    if damage == "zeros":
        last.write_bytes(bytes(last.stat().st_size))
    else:
        halved(last)
    if damage == "both":
        halved(before)
    told: list[str] = []
    resumed = train(tiny(), scenes, run, device="cpu", tell=told.append)
    assert "is damaged" in told[0]
    assert any("starts again" in line for line in told) == (damage == "both")
    assert "goes back to resume-before.safetensors" in told[0]
    assert resumed.resumed_at == (0 if damage == "both" else 1)
    for name in ("last.safetensors", "best.safetensors"):
        assert states_equal(tmp_path / "whole" / name, run / name), name


def test_a_state_of_the_older_form_is_read(scenes: Path, tmp_path: Path) -> None:
    """resume.pt, as torch.save wrote it; a damaged one starts again."""
    train(tiny(), scenes, tmp_path / "run", device="cpu")
    state = read_state(tmp_path / "run" / "resume-before.safetensors")
    for name, content in (("good", state), ("bad", b"PK")):
        run, told = tmp_path / name, []
        run.mkdir()
        if isinstance(content, bytes):
            (run / "resume.pt").write_bytes(content)
        else:
            torch.save(content, run / "resume.pt")
            (run / "log.csv").write_bytes((tmp_path / "run" / "log.csv").read_bytes())
        resumed = train(tiny(), scenes, run, device="cpu", tell=told.append)
        assert resumed.resumed_at == (2 if name == "good" else 0)
        assert any("starts again" in line for line in told) == (name == "bad")
        assert states_equal(tmp_path / "run" / "last.safetensors", run / "last.safetensors")


def test_a_state_of_another_network_is_refused(scenes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny(), scenes, run, device="cpu")
    state = read_state(run / "resume.safetensors")
    first = next(iter(state["optimisers"]["encoder"]["state"].values()))
    first["exp_avg"] = torch.zeros(3, 3)
    for content in (state, state | {"progress": {"speed": 1}}, state | {"optimisers": {}}, state | {"network": []}):
        (run / "resume.safetensors").write_bytes(to_state(content))
        with pytest.raises(DataError, match="--existing replace"):
            train(tiny(), scenes, run, device="cpu")
