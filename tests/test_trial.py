"""`--steps N`: recipes tried as they stand, which leaves nothing behind; and batches that are computed in parts."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

import yaml  # noqa: E402
from tiny_smrnet import TINY as SMRNET  # noqa: E402
from torch import nn  # noqa: E402

from evalkit.cli import main  # noqa: E402
from evalkit.data.samples.samples import write_scenes  # noqa: E402
from evalkit.downstream.detection.recipe import SampleScenes  # noqa: E402
from evalkit.downstream.segmentation.recipe import small_schedule  # noqa: E402
from evalkit.downstream.segmentation.scenes import SegmentationScenes  # noqa: E402
from evalkit.downstream.trial import labelled_pairs  # noqa: E402
from evalkit.errors import DataError, EvalkitError  # noqa: E402
from evalkit.methods.layers.batch_norm import keep_pace  # noqa: E402
from evalkit.methods.tensors import read_tensors  # noqa: E402
from evalkit.protocols.plan import Settings  # noqa: E402
from evalkit.protocols.schema import make_protocol  # noqa: E402
from evalkit.protocols.tasks import Job  # noqa: E402
from evalkit.training.data import divided  # noqa: E402
from evalkit.training.loop import train  # noqa: E402
from evalkit.training.papers.smfnet import SMFNetSystem  # noqa: E402
from evalkit.training.recipe import Recipe  # noqa: E402
from evalkit.training.system import Moment, build_system  # noqa: E402
from evalkit.training.trial import MemoryShortError, StageTrial, duration  # noqa: E402
from evalkit.training.try_recipe import at_hand, try_recipe  # noqa: E402

SMFNET = {
    "method": "SMFNet",
    "name": "tiny",
    "source": "a test",
    "data": {"datasets": {"samples": None}, "holdout": 2},
    "augment": {"crop": 24, "flip_horizontal": True},
    "network": {"width": 8, "heads": 2, "base_blocks": 1, "bottleneck": 2, "dilations": [1, 2, 3]},
    "batch": 2,
    "steps": 3,
    "stages": [
        {"name": "reconstruct", "epochs": 1, "parts": ["encoder", "graph", "decoder"]},
        {"name": "fuse", "epochs": 2},
    ],
    "optimiser": {"lr": 1e-3},
}
S4FUSION = {
    "method": "S4Fusion",
    "name": "tiny",
    "source": "a test",
    "data": {"datasets": {"samples": None}},
    "augment": {"crop": 32},
    "network": {"widths": [8, 16, 32], "depths": [1, 1, 1], "cmsa_blocks": 1, "states": 2, "cmsa_states": 2},
    "loss": {"perception": 0},
    "batch": 4,
    "steps": 2,
    "stages": [{"name": "fuse", "epochs": 2}],
    "optimiser": {"kind": "adamw", "lr": 1e-3},
}


def recipe(base: dict, **changes: object) -> Recipe:
    return Recipe.model_validate(base | changes)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, 6, 7, 80, 64)
    return root


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of the test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- trials


def test_every_stage_is_tried_and_nothing_is_left(scenes: Path, temporary: Path) -> None:
    before = files(scenes)
    trials = try_recipe(recipe(SMFNET), scenes, 2, device="cpu")
    assert [(t.network, t.stage, t.batch, t.sample, t.steps) for t in trials] == [
        ("SMFNet", "reconstruct", 2, "24x24", 3),
        ("SMFNet", "fuse", 2, "24x24", 6),
    ]
    for trial in trials:
        assert len(trial.seconds) == len(trial.processor) == len(trial.peak) == len(trial.losses) == 2
        assert all(losses["total"] == pytest.approx(sum(losses.values()) / 2) for losses in trial.losses)
        assert trial.whole == trial.steps * trial.seconds[1]
        assert sys.platform != "linux" or all(peak > 2**26 for peak in trial.peak)
    assert trials[0].losses[0] != trials[0].losses[1], "a step was made"
    assert files(scenes) == before
    assert not list(temporary.iterdir())


def test_the_losses_of_a_trial_are_those_of_the_training(scenes: Path, tmp_path: Path) -> None:
    whole = recipe(SMFNET, steps=1)
    tried = try_recipe(whole, scenes, 1, device="cpu")[0].losses[0]
    assert tried["total"] == train(whole, scenes, tmp_path / "out", device="cpu").losses[0][2]


def test_a_later_round_whose_loss_has_other_terms_is_tried_too(scenes: Path) -> None:
    trials = try_recipe(recipe(SMRNET, rounds=10), scenes, 1, device="cpu")
    assert [(t.stage, t.steps) for t in trials] == [
        ("fuse, round 1", 3),
        ("detect, round 1", 6),
        ("fuse, round 2", 27),
        ("detect, round 2", 54),
    ]
    assert "saliency" not in trials[0].losses[0]
    assert "saliency" in trials[2].losses[0]


def test_missing_weights_are_random_in_a_trial_alone(scenes: Path, tmp_path: Path) -> None:
    judged = recipe(S4FUSION, weights={"critic": "resnet50-0676ba61.pth"}, loss={"perception": 1})
    (trial,) = try_recipe(judged, scenes, 1, device="cpu")
    assert trial.notes == ["random weights in place of resnet50-0676ba61.pth (critic)"]
    assert 0 < trial.losses[0]["perception"] < 7
    with pytest.raises(DataError, match=r"begins with|resnet50"):
        train(judged, scenes, tmp_path / "out", device="cpu")


def test_fewer_pairs_than_the_recipe_wants_are_told_and_reckoned_with(tmp_path: Path) -> None:
    write_scenes(tmp_path, 3, 7, 80, 64)
    drawn, root = tmp_path / "samples", tmp_path / "root"
    for role, name in (("ir", "T"), ("vi", "RGB"), ("salient", "GT")):
        (root / "VT5000").mkdir(parents=True, exist_ok=True)
        source = next(path for path in drawn.rglob("*") if path.is_dir() and path.name == role)
        (root / "VT5000" / name).symlink_to(source)
    whole = recipe(SMRNET, data={"datasets": {"VT5000": "train"}, "labels": ["salient"]})
    tried, share, notes = at_hand(whole, root)
    assert tried.data.datasets == {"VT5000": "test"}
    assert share == pytest.approx(2500 / 3)
    assert notes[0] == "VT5000: the split test in place of train"
    assert "3 of 2500 pairs" in notes[1]
    trials = try_recipe(whole.model_copy(update={"steps": None}), root, 1, device="cpu")
    assert trials[0].steps == 2500 // 2
    with pytest.raises(DataError, match="VT5000"):
        try_recipe(whole, tmp_path, 1, device="cpu")


def test_the_command_leaves_a_training_as_it_was(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(SMFNET), encoding="utf-8")
    own = ["train", "SMFNet", "--recipe", "tiny.yaml", "--data-root", str(scenes), "--device", "cpu"]
    done = CliRunner().invoke(main, own)
    assert done.exit_code == 0, done.output
    before = files(Path("runs"))
    tried = CliRunner().invoke(main, [*own, "--steps", "1", "--json"])
    assert tried.exit_code == 0, tried.output
    content = json.loads(tried.stdout)
    assert content["trial"].startswith("A trial: nothing")
    assert [stage["stage"] for stage in content["stages"]] == ["reconstruct", "fuse"]
    assert content["stages"][1]["seconds_of_the_recipe"] == pytest.approx(6 * content["stages"][1]["seconds"][0])
    assert files(Path("runs")) == before
    assert not list(temporary.iterdir())
    shown = CliRunner().invoke(main, [*own, "--steps", "1"])
    assert "s per step" in shown.stdout
    assert "no training goes on from it" in shown.stdout
    for more in (["--out", "x"], ["--devices", "2"]):
        with pytest.raises(EvalkitError, match="leave --out and --devices out"):
            CliRunner().invoke(main, [*own, "--steps", "1", *more], catch_exceptions=False, standalone_mode=False)


def test_a_table_tries_the_networks_of_its_rows(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(SMFNET), encoding="utf-8")
    own = ["reproduce", "smfnet-table1", "--data-root", str(scenes), "--recipe", "tiny.yaml", "--steps", "1", "--json"]
    done = CliRunner().invoke(main, [*own, "--methods", "SMFNet,average", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert [stage["network"] for stage in json.loads(done.stdout)["stages"]] == ["SMFNet", "SMFNet"]
    with pytest.raises(EvalkitError, match="nothing is trained for smfnet-table1"):
        CliRunner().invoke(main, [*own, "--methods", "average"], catch_exceptions=False, standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir() if path.name != "temporary"] == ["tiny.yaml"]


def test_a_benchmark_of_own_images_learns_from_the_data_root_that_is_named(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(SMFNET), encoding="utf-8")
    mine = {"infrared": str(scenes / "samples/ir"), "visible": str(scenes / "samples/vi")}
    bench = {"title": "x", "convention": "smfnet", "metrics": ["EN"], "methods": ["SMFNet"], "datasets": {"mine": mine}}
    Path("bench.yaml").write_text(yaml.safe_dump(bench), encoding="utf-8")
    own = ["reproduce", "bench.yaml", "--data-root", str(scenes), "--recipe", "tiny.yaml", "--device", "cpu"]
    tried = CliRunner().invoke(main, [*own, "--steps", "1", "--json"])
    assert tried.exit_code == 0, tried.output
    assert not any("generated" in note for stage in json.loads(tried.stdout)["stages"] for note in stage["notes"])
    done = CliRunner().invoke(main, [*own, "--train", "--out", "run"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(("kind", "folder"), [("classes", "Segmentation_labels"), ("boxes", "detection_labels")])
def test_labels_of_a_benchmark_file_are_tried_and_divided(scenes: Path, tmp_path: Path, kind: str, folder: str) -> None:
    names = [{"id": i, "name": f"class {i}"} for i in range(9)]
    mine = {
        "infrared": str(scenes / "samples/ir"),
        "visible": str(scenes / "samples/vi"),
        "labels": {kind: str(scenes / "samples" / folder)},
        "segmentation" if kind == "classes" else "detection": names,
    }
    task = "segmentation" if kind == "classes" else "detection"
    bench = {"title": "x", "task": task, "metrics": ["IoU"], "methods": ["average"], "datasets": {"mine": mine}}
    made = make_protocol(bench | {"convention": task})
    job = Job(made, dict(made.datasets), ["average"], {}, None, False, Settings(tmp_path / "run", workers=1))
    assert len(labelled_pairs(job, "mine", "train", kind, SampleScenes(count=8, width=64, height=64)).pairs) == 6
    if kind == "classes":
        schedule = small_schedule("SegNeXt-T").model_copy(update={"lists": "1:1:1"})
        parts = SegmentationScenes(job, "mine", made.datasets["mine"], schedule, True)
        assert parts.split.counts == "2/2/2"
        assert "has no lists" in parts.how


def test_a_step_that_does_not_fit_says_what_to_try(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(SMFNetSystem, "forward", full)
    with pytest.raises(
        MemoryShortError, match=r"SMFNet, reconstruct, does not fit .* 2 samples of 24x24.*accumulate 2"
    ):
        try_recipe(recipe(SMFNET), scenes, 1, device="cpu")
    with pytest.raises(MemoryShortError, match=r"in 2 parts\. Take a machine with more"):
        try_recipe(recipe(SMFNET), scenes, 1, device="cpu", accumulate=2)


def test_too_few_images_for_a_norm_are_one_sentence(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def normalised(system: SMFNetSystem, batch: dict, moment: Moment) -> dict:
        values = batch["infrared"].mean((1, 2, 3), keepdim=True)
        return {"loss": nn.BatchNorm2d(1)(values).sum() + sum(p.sum() for p in system.parameters())}

    monkeypatch.setattr(SMFNetSystem, "forward", normalised)
    assert try_recipe(recipe(SMFNET), scenes, 1, device="cpu")
    with pytest.raises(EvalkitError, match=r"one value per image, and 1 at a time is too few: take a smaller --acc"):
        try_recipe(recipe(SMFNET), scenes, 1, device="cpu", accumulate=2)
    with pytest.raises(EvalkitError, match=r"too few: take a larger batch in the recipe"):
        try_recipe(recipe(SMFNET, batch=1), scenes, 1, device="cpu")


def test_durations_and_paces() -> None:
    assert [duration(s) for s in (5, 119, 120, 7200, 172800 * 3)] == [
        "5.0 s",
        "119.0 s",
        "2.0 min",
        "2.0 h",
        "6.0 days",
    ]
    assert StageTrial("A", "b", 1, 1, "", 10, seconds=[9.0, 1.0, 2.0, 3.0]).whole == 20
    assert StageTrial("A", "b", 1, 1, "", 10, seconds=[9.0]).whole == 90


# --- batches in parts


def drawn(count: int, side: int = 32) -> dict:
    random = torch.Generator().manual_seed(1)
    return {
        "infrared": torch.rand(count, 1, side, side, generator=random),
        "visible": torch.rand(count, 3, side, side, generator=random),
        "salient": (torch.rand(count, 1, side, side, generator=random) > 0.7).float(),
        "stems": [str(i) for i in range(count)],
    }


def gradients(base: dict, stage: str, parts: int, count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    system = build_system(recipe(base)).train()
    for module in system.network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    for part, share in divided(drawn(count), parts, system.shared):
        (torch.stack(list(system(part, Moment(stage, 1)).values())).sum() * share).backward()
    return {name: p.grad for name, p in system.network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("base", "stage"), [(S4FUSION, "fuse"), (SMRNET, "fuse"), (SMRNET, "detect")])
def test_parts_add_up_to_the_gradient_of_the_batch(base: dict, stage: str) -> None:
    """With BatchNorm's statistics held, which are what a part has of its own; five images in two unequal parts."""
    whole, divided_ = gradients(base, stage, 1, 5), gradients(base, stage, 2, 5)
    assert whole.keys() == divided_.keys()
    size = torch.stack([g.square().sum() for g in whole.values()]).sum().sqrt()
    for name, gradient in whole.items():
        assert (gradient - divided_[name]).norm() < 1e-5 * size, name


def test_a_batch_is_divided_as_equally_as_can_be() -> None:
    parts = list(divided(drawn(5), 3, lambda batch: {"mean": batch["infrared"].mean().expand(5)}))
    assert [len(part["stems"]) for part, _ in parts] == [2, 2, 1]
    assert [share for _, share in parts] == [0.4, 0.4, 0.2]
    assert {float(part["mean"][0]) for part, _ in parts} == {float(drawn(5)["infrared"].mean())}
    assert len(list(divided(drawn(2), 8, lambda _: {}))) == 2


def test_a_training_in_parts_learns_the_same_and_is_a_run_of_its_own(scenes: Path, tmp_path: Path) -> None:
    whole = train(recipe(S4FUSION), scenes, tmp_path / "whole", device="cpu")
    parts = train(recipe(S4FUSION), scenes, tmp_path / "parts", device="cpu", accumulate=2)
    assert [loss for *_, loss in parts.losses] == pytest.approx([loss for *_, loss in whole.losses], rel=1e-5)
    one, other = (read_tensors(result.weights) for result in (whole, parts))
    # Adam makes steps of the rate's size of gradients of the size of rounding
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < 1e-4
    with pytest.raises(DataError, match="--accumulate 2"):
        train(recipe(S4FUSION), scenes, tmp_path / "parts", device="cpu")


def test_running_statistics_keep_their_pace() -> None:
    whole, parts = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    keep_pace(parts, 4)
    whole(torch.full((4, 1, 2, 2), 3.0))
    for _ in range(4):
        parts(torch.full((1, 1, 2, 2), 3.0))
    assert whole.running_mean is not None
    assert parts.running_mean is not None
    assert float(parts.running_mean) == pytest.approx(float(whole.running_mean), rel=1e-6)
