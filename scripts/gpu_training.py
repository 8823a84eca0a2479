"""Networks and training on a GPU, for `gpu_check.py`: do both devices agree, what does a step take and teach?"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from evalkit.data.card import load_card
from evalkit.data.pairs import find_pairs
from evalkit.data.samples.samples import make_scene
from evalkit.errors import DataError
from evalkit.methods.fuse import fuse_dataset
from evalkit.methods.layers.resnet import RESNET34, ResNetEncoder
from evalkit.methods.registry import METHODS
from evalkit.metrics.folders import evaluate_folder
from evalkit.training.critics import ResNet50
from evalkit.training.find_recipe import load_recipe
from evalkit.training.loop import train
from evalkit.training.recipe import Recipe
from evalkit.training.trained import on_samples, trained_method, training_scenes

AGREE = 1e-3  # largest difference in float32, in standard deviations of the output
SYSTEMS = ("SMFNet", "PSFusion", "S4Fusion", "TSJNet", "SMR-Net")
NINE = ["EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM"]


class OutOfTimeError(Exception):
    """The time of a part is over: what was measured until then counts."""


@dataclass
class Clock:
    """What wraps the steps of a training: the seconds of each; the training ends at the deadline (`time.monotonic`)."""

    device: str
    deadline: float
    seconds: list[float] = field(default_factory=list)

    def __call__(self, items: Iterable, total: int, text: str) -> Iterator:
        start = time.perf_counter()
        for item in items:
            if self.device != "cpu":
                torch.cuda.synchronize()
            now = time.perf_counter()
            self.seconds.append(now - start)
            start = now
            yield item
            if time.monotonic() > self.deadline:
                raise OutOfTimeError


def networks(device: str, deadline: float, names: Sequence[str], width: int, height: int) -> dict[str, Any]:
    """Largest difference of each network's output between CPU and device, float32, random weights.

    TF32 is off, as everywhere in evalkit. The difference is in standard deviations of the CPU's output.
    """
    scene = make_scene(0, 0, width, height)
    difference: dict[str, Any] = {}
    problems = []
    for name in names or [one for one, method in METHODS.items() if method.network is not None]:
        if time.monotonic() > deadline:
            difference[name] = "left out: no time"
            continue
        try:
            method = METHODS[name].network()  # type: ignore[misc]
            torch.manual_seed(0)
            network = method.build().eval()
            outputs = []
            for where in ("cpu", device):
                network = network.to(where)
                (output, _), *_ = method.run(network, [(scene.infrared, scene.visible)], where)
                outputs.append(output.double().numpy())
        except Exception as error:  # one network that fails is told, and the others are measured
            problems.append(f"{name} failed: {_first(error)}")
            continue
        finite = [np.isfinite(output) for output in outputs]
        if not np.array_equal(*finite):
            problems.append(f"{name}: not finite in other places than on the CPU")
            continue
        gaps = np.abs(outputs[0] - outputs[1])[finite[0]]
        spread = float(outputs[0][finite[0]].std()) if finite[0].any() else 0.0
        difference[name] = float(gaps.max() / max(spread, 1e-12)) if gaps.size else 0.0
        if difference[name] > AGREE:
            problems.append(f"{name} differs by {difference[name]:.1e}")
    return {"difference": difference, "problems": problems}


def at_hand(recipe: Recipe, data_root: Path | None, scenes: Path) -> tuple[Recipe, Path, str]:
    """The recipe on those of its data sets that are there, their root, and what they are; else on generated scenes."""
    for root in filter(None, [data_root]):
        there = {name: split for name, split in recipe.data.datasets.items() if _there(name, root, split)}
        if there:
            pairs = sum(len(find_pairs(load_card(name), root, split).pairs) for name, split in there.items())
            shares = {name: share for name, share in recipe.data.shares.items() if name in there}
            data = recipe.data.model_copy(update={"datasets": there, "shares": shares})
            return recipe.model_copy(update={"data": data}), root, f"{pairs} pairs of {', '.join(there)}"
        if _there("samples", root, None):
            return on_samples(recipe), root, "generated scenes"
    return on_samples(recipe), training_scenes(scenes), "generated scenes"


def random_weights(recipe: Recipe, folder: Path) -> None:
    """Files with random weights under the names of the recipe's pretrained ones; TSJNet's need torchvision."""
    made = {
        "critic": _resnet50,
        "backbone": _resnet34,
        "encoder": _resnet34,
        "detector": _detector,
        "segmenter": _segmenter,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in recipe.weights.items():
        torch.save(made[part]().state_dict(), folder / name)


def _resnet34() -> torch.nn.Module:
    return ResNetEncoder(RESNET34)


def _resnet50() -> torch.nn.Module:
    network = ResNet50()
    for name, parameter in network.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.zeros_(parameter)  # else what is random grows from block to block
    return network


def _detector() -> torch.nn.Module:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn  # optional

    return fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)


def _segmenter() -> torch.nn.Module:
    from torchvision.models.segmentation import deeplabv3_resnet101  # optional

    return deeplabv3_resnet101(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)


def recipe_steps(
    device: str,
    deadline: float,
    names: Sequence[str],
    recipe: str,
    steps: int,
    data_root: Path | None,
    weights: Path | None,
    **changes: Any,
) -> dict[str, Any]:
    """Steps of each stage by a recipe at full width: seconds, memory, images a second, loss; the time is shared evenly.

    Pretrained weights that are missing are random ones, which the notes say; half of a recipe's time is a stage's
    where there are two.
    """
    measured: dict[str, Any] = {}
    problems = []
    for n, name in enumerate(names):
        now = time.monotonic()
        if now > deadline:
            measured[name] = "left out: no time"
            continue
        try:
            ends = now + (deadline - now) / (len(names) - n)
            chosen = load_recipe(name, recipe).model_copy(update={"steps": steps, "rounds": 1, **changes})
            measured[name] = [
                one_stage(device, now + (ends - now) * (k + 1) / len(chosen.stages), chosen, k, data_root, weights)
                for k in range(len(chosen.stages))
            ]
        except Exception as error:  # out of memory, a driver: told, and the others are measured
            problems.append(f"{name} failed: {_first(error)}")
    return {"recipes": measured, "problems": problems}


def one_stage(
    device: str, deadline: float, recipe: Recipe, number: int, data_root: Path | None, weights: Path | None
) -> dict[str, Any]:
    """The steps of one stage of a recipe, all else as it stands."""
    stage = recipe.stages[number].model_copy(update={"epochs": 1})
    with tempfile.TemporaryDirectory() as folder:
        chosen, root, pairs = at_hand(
            recipe.model_copy(update={"stages": (stage,)}), data_root, Path(folder) / "scenes"
        )
        data = chosen.data.model_copy(update={"holdout": 0})  # nothing is validated
        chosen = chosen.model_copy(update={"data": data})
        notes, files = [pairs], list(chosen.weights.values())
        if any(weights is None or not (weights / name).is_file() for name in files):
            notes.append(f"random weights in place of {', '.join(files)}")
            weights = Path(folder) / "weights"
            random_weights(chosen, weights)
        clock, losses = Clock(device, deadline), []
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        try:
            result = train(chosen, root, Path(folder) / "run", weights=weights, device=device, progress=clock)
            losses = [value for _, _, value in result.losses]
        except OutOfTimeError:
            notes.append(f"{len(clock.seconds)} of {recipe.steps} steps: no more time")
        pace = median(clock.seconds[1:] or clock.seconds)
        return {
            "stage": stage.name,
            "batch": chosen.batch,
            "precision": chosen.precision,
            "steps": len(clock.seconds),
            "seconds_per_step": pace,
            "images_per_second": chosen.batch / pace,
            "peak_memory": torch.cuda.max_memory_allocated() if device != "cpu" else None,
            "loss": losses,
            "notes": notes,
        }


def learned(
    device: str, deadline: float, recipe: str, data_root: Path | None, pace: float | None, steps: int | None
) -> dict[str, Any]:
    """SMFNet trained for the time that is left, and its row on TNO, or on generated scenes where TNO is not at hand.

    Args:
        device: where.
        deadline: the training is made as long as seems to fit.
        recipe: its name.
        data_root: folder with MSRS and TNO; None: generated scenes.
        pace: seconds of a step; measured in two steps where it is not known.
        steps: of each epoch, in place of the recipe's.

    Returns:
        Epochs and steps that were made, and the mean of the nine metrics of SMFNet's Table I.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        chosen = load_recipe("SMFNet", recipe).model_copy(update={"steps": steps} if steps else {})
        chosen, data, learned_from = at_hand(chosen, data_root, root / "scenes")
        if pace is None:
            pace = one_stage(device, deadline, chosen.model_copy(update={"steps": 2}), 1, data, None)[
                "seconds_per_step"
            ]
        pairs = sum(len(find_pairs(load_card(n), data, split).pairs) for n, split in chosen.data.datasets.items())
        each = chosen.steps or max(1, 6 * pairs // chosen.batch)  # six squares a pair at most
        left = max(0.0, 0.7 * (deadline - time.monotonic()))
        share = min(1.0, left / (pace * each * sum(stage.epochs for stage in chosen.stages)))
        stages = tuple(s.model_copy(update={"epochs": max(1, int(s.epochs * share))}) for s in chosen.stages)
        result = train(chosen.model_copy(update={"stages": stages}), data, root / "run", device=device)
        if data_root and _there("TNO", data_root, None):
            tested, dataset = data_root, "TNO"
        else:
            tested, dataset = (data if _there("samples", data, None) else training_scenes(root / "tested")), "samples"
        method = trained_method(result.weights, "SMFNet")
        fuse_dataset("SMFNet", dataset, tested, root / "fused", files=[result.weights], device=device, trained=method)
        first = find_pairs(load_card(dataset), tested, None).pairs[0]
        parents = [first.infrared.parent, first.visible.parent]
        frame = evaluate_folder(root / "fused" / "SMFNet" / dataset, *parents, NINE, "smfnet")
        return {
            "learned from": learned_from,
            "epochs": {stage.name: stage.epochs for stage in stages},
            "steps": result.steps,
            "images_per_second": result.images_per_second,
            "peak_memory": result.peak_memory,
            "losses": [value for _, _, value in result.losses],
            "dataset": dataset,
            "pairs": len(frame),
            "row": {name: float(frame[name].mean()) for name in NINE},
        }


def two_processes(device: str, deadline: float) -> Any:
    """SMFNet's recipe `sample` with two processes, a GPU each; on the CPU two processes of it."""
    cards = 2 if device == "cpu" else torch.cuda.device_count()
    if cards < 2:
        return "left out: there is one GPU"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        kind = device.partition(":")[0]
        command = [sys.executable, "-m", "evalkit", "train", "SMFNet", "--recipe", "sample", "--sample", "--json"]
        command += ["--out", str(out), "--device", kind, "--devices", "2"]
        limit = max(10.0, deadline - time.monotonic())
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return f"left out: not done after {limit:.0f} s"
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no reason was given"])[-1])
        return done.stdout[-2000:]


def _there(dataset: str, root: Path, split: str | None) -> bool:
    try:
        return bool(find_pairs(load_card(dataset), root, split).pairs)
    except DataError:
        return False


def _first(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
