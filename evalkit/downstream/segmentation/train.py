"""Training a segmentation network on the images of one fusion method, with mmengine's Runner, and counting its errors.

The network is chosen on held-out images: the validation whose mIoU there is highest gives the test counts. What the
choice on the test images would have given stands in the history, beside it.
"""

from __future__ import annotations

import io
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evalkit.downstream.environment import calm, need, set_variables
from evalkit.downstream.segmentation.history import STATE, HistoryError, is_state, read_counts, read_history
from evalkit.downstream.segmentation.networks import segmenter
from evalkit.downstream.segmentation.pixels import read_sample
from evalkit.downstream.segmentation.recipe import SegmentationSchedule
from evalkit.errors import DataError, EvalkitError, StateWarning
from evalkit.files.write import write_text

if TYPE_CHECKING:
    from evalkit.training.trial import StageTrial

REVISION = 2  # of the code below; another one trains anew
PARTS = ("train", "val", "test")
META = ("stem", "part", "label", "ori_shape", "img_shape", "pad_shape", "scale_factor", "flip", "flip_direction")


@dataclass(frozen=True)
class LabelledImage:
    """One image that a network sees, and its label."""

    stem: str
    image: Path
    label: Path
    infrared: Path | None = None  # for networks of two streams


@dataclass(frozen=True)
class Training:
    """One network, one method, one seed."""

    schedule: SegmentationSchedule
    scenes: Mapping[str, Sequence[LabelledImage]]  # train, val, test
    classes: tuple[str, ...]
    out: Path
    seed: int
    key: str  # of everything that the result depends on
    weights: Path | None = None
    device: str = "cpu"
    accumulate: int = 1  # parts that a batch is computed in


@dataclass(frozen=True)
class TrainedSegmenter:
    """What a training gave.

    Attributes:
        counts: test image -> confusion matrix, of the validation that was best on the held-out images.
        iteration: of that validation.
        val, test: mIoU then, over the classes that are there.
        best_on_test: the highest test mIoU of all validations: what selection on the test set would have reported.
        statistics: mean and standard deviation per channel of the training images, 0..255.
    """

    counts: dict[str, NDArray[np.int64]]
    iteration: int
    val: float
    test: float
    best_on_test: float
    statistics: dict[str, list[float]]


def channel_statistics(scenes: Sequence[LabelledImage]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel over all pixels of the images, on the scale 0..255."""
    count, total, squares = 0, np.zeros(4), np.zeros(4)
    for scene in scenes:
        pixels = read_sample(scene.image, scene.infrared).astype(np.float64)
        pixels = pixels.reshape(-1, pixels.shape[2])
        channels = pixels.shape[1]
        count += len(pixels)
        total[:channels] += pixels.sum(axis=0)
        squares[:channels] += (pixels**2).sum(axis=0)
    mean = total[:channels] / count
    std = np.sqrt(np.maximum(squares[:channels] / count - mean**2, 0))
    if (std == 0).any():
        raise DataError("a channel of the training images is constant: they cannot be normalised.")
    return mean.round(3).tolist(), std.round(3).tolist()


def pipelines(schedule: SegmentationSchedule) -> tuple[list[dict], list[dict]]:
    """Transforms of training and of test, as PSFusion's configuration has them; test is one scale, the whole image."""
    width, height = schedule.size
    pack = {"type": "PackSegInputs", "meta_keys": META}
    train = [
        {"type": "ReadScene", "label": True},
        {"type": "RandomResize", "scale": (width, height), "ratio_range": schedule.ratio, "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": schedule.cut, "cat_max_ratio": 0.75},
        {"type": "RandomFlip", "prob": 0.5},
    ]
    if segmenter(schedule.network).streams == 1:
        train.append({"type": "PhotoMetricDistortion"})
    test = [{"type": "ReadScene", "label": False}, {"type": "Resize", "scale": (width, height), "keep_ratio": True}]
    return [*train, pack], [*test, pack]


def runner_config(training: Training, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """What mmengine's Runner is built from, but for the network.

    Args:
        training: what is trained.
        state: to go on from.
    """
    schedule, classes = training.schedule, list(training.classes)
    images = len(training.scenes["train"])
    length, interval = schedule.length(images), schedule.interval(images)
    train, test = pipelines(schedule)

    def loader(parts: Sequence[str], pipeline: list[dict], **others: Any) -> dict[str, Any]:
        listed = [
            {"stem": s.stem, "part": part, "image": str(s.image), "label": str(s.label)}
            | {"infrared": str(s.infrared) if s.infrared else ""}
            for part in parts
            for s in training.scenes[part]
        ]
        dataset = {"type": "ListedScenes", "scenes": listed, "classes": classes, "pipeline": pipeline}
        return {"num_workers": 0, "dataset": dataset} | others

    schedulers: list[dict[str, Any]] = []
    if schedule.warm_up:
        factor = max(schedule.warm_up_from, 1e-9)
        schedulers.append({"type": "LinearLR", "start_factor": factor, "begin": 0, "end": schedule.warm_up})
    if schedule.decay is None:
        schedulers.append({"type": "PolyLR", "power": schedule.power, "begin": schedule.warm_up, "end": length})
    else:
        schedulers.append({"type": "ExponentialLR", "gamma": schedule.decay ** (schedule.batch / max(images, 1))})
    return {
        "work_dir": str(training.out),
        "train_dataloader": loader(
            ["train"], train, batch_size=schedule.batch, sampler={"type": "InfiniteSampler", "shuffle": True}
        ),
        "val_dataloader": loader(
            ["val", "test"], test, batch_size=1, sampler={"type": "DefaultSampler", "shuffle": False}
        ),
        "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": length, "val_interval": interval},
        "val_cfg": {"type": "ValLoop"},
        "val_evaluator": {"type": "Counts", "classes": len(classes)},
        "optim_wrapper": {"type": "OptimWrapper", "optimizer": schedule.optimiser, "paramwise_cfg": schedule.paramwise},
        "param_scheduler": [one | {"by_epoch": False} for one in schedulers],
        "default_hooks": {
            "checkpoint": None,  # it writes pickles; KeepCounts keeps what is needed
            "logger": {"type": "LoggerHook", "interval": interval, "log_metric_by_epoch": False},
        },
        "custom_hooks": [{"type": "KeepCounts", "folder": str(training.out), "state": state}],
        "visualizer": {"type": "SegLocalVisualizer", "vis_backends": [], "name": f"evalkit-{training.key}"},
        "log_processor": {"by_epoch": False},
        "log_level": "ERROR",
        "default_scope": "mmseg",
        "randomness": {"seed": training.seed},
        "experiment_name": f"evalkit-{training.key}",
    }  # fmt: skip


def train_segmenter(training: Training) -> TrainedSegmenter:
    """Train a network, or read what an earlier run trained from the same images in the same way.

    An interrupted training goes on from its last validation. Written to `training.out`: history.json (mIoU of every
    validation), counts.csv (the confusion matrix of every test image), best.safetensors, done.json. A state that is
    damaged is passed over with a StateWarning: the one before it serves, or the training starts again.

    Raises:
        EvalkitError: the images cannot be used, or the training failed.
        OutputError: a file cannot be written.
    """
    if finished(training):
        return _result(training.out)
    set_variables()
    if _read_json(training.out / "started.json").get("key") != training.key and training.out.exists():
        shutil.rmtree(training.out)  # of other images, or of another recipe
    write_text(training.out / "started.json", json.dumps({"key": training.key}) + "\n")
    need("segmentation")
    from evalkit.methods.states import last_state, remove_state  # PyTorch

    state = last_state(training.out / STATE, _say, is_state)
    if state is None and (training.out / "last_checkpoint").exists():
        _say(f"{training.out} holds a training of an older version of evalkit, cut short: it starts again.")
    mean, std = channel_statistics(training.scenes["train"])
    try:
        _run(training, mean, std, state)
    except HistoryError as error:
        _say(f"the state in {training.out} is not of this training ({error}): it starts again.")
        _run(training, mean, std, None)
    remove_state(training.out / STATE)  # it served to go on; the chosen weights are best.safetensors
    facts = {"key": training.key, "mean": mean, "std": std, "schedule": training.schedule.model_dump(mode="json")}
    write_text(training.out / "done.json", json.dumps(facts, indent=1) + "\n")
    return _result(training.out)


def try_training(training: Training, trial: StageTrial, steps: int) -> None:
    """Measure some iterations, by the rates of the whole schedule; nothing is validated, nothing written.

    Args:
        training: its batch and schedule.
        trial: is filled.
        steps: iterations.

    Raises:
        EvalkitError: the images or weights cannot be used, or an iteration failed.
    """
    own = {scene.image: scene for scene in training.scenes["train"]}
    mean, std = channel_statistics(list(own.values()))
    config = runner_config(training)
    for validation in ("val_dataloader", "val_cfg", "val_evaluator"):
        del config[validation]
    config["train_cfg"] = {"type": "IterBasedTrainLoop", "max_iters": steps, "val_interval": steps + 1}
    config["custom_hooks"] = [{"type": "MeasureSteps", "trial": trial, "device": training.device}]
    with calm(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        _train(training, mean, std, config)


def finished(training: Training) -> bool:
    """Whether an earlier run trained this from the same images in the same way."""
    return _read_json(training.out / "done.json").get("key") == training.key


def _say(text: str) -> None:
    warnings.warn(text, StateWarning, stacklevel=3)


def _run(training: Training, mean: list[float], std: list[float], state: dict[str, Any] | None) -> None:
    """Train, quietly: the packages print while they are imported and built."""
    with calm(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        _train(training, mean, std, runner_config(training, state))


def _train(training: Training, mean: list[float], std: list[float], config: dict[str, Any]) -> None:
    from evalkit.downstream.segmentation import mmseg_parts, models  # an extra, which prints while it is imported

    schedule = training.schedule
    classes = len(training.classes)
    model = models.model_config(
        schedule.network,
        classes,
        mean,
        std,
        schedule.cut,
        schedule.losses,
        schedule.class_weights,
        schedule.reduced,
    )
    try:
        mmseg_parts.run(config, model, training.device, training.seed, training.weights, training.accumulate)
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise EvalkitError(f"the training of {training.schedule.network} in {training.out} failed: {first}") from error


def _result(folder: Path) -> TrainedSegmenter:
    facts = _read_json(folder / "done.json")
    history = read_history(folder)
    best = max(history, key=lambda line: line["val"])  # the first of equals, as the counts were kept
    statistics = {"mean": facts["mean"], "std": facts["std"]}
    highest = max(line["test"] for line in history)
    counts = read_counts(folder / "counts.csv")
    return TrainedSegmenter(counts, int(best["iteration"]), best["val"], best["test"], highest, statistics)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
