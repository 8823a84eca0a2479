"""What mmengine's Runner needs from evalkit: samples read by evalkit, and counts per image."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmengine.device.utils
import mmseg.datasets.transforms  # noqa: F401 - fills the registry
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.config import Config as RunnerConfig
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner, set_random_seed
from mmseg.registry import DATASETS, HOOKS, METRICS, TRANSFORMS
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from evalkit.data.labels import read_mask
from evalkit.downstream.random_state import random_state, set_random_state
from evalkit.downstream.segmentation.history import (
    STATE,
    HistoryError,
    read_history,
    write_counts,
    write_history,
)
from evalkit.downstream.segmentation.models import Config, build, load_encoder
from evalkit.downstream.segmentation.pixels import read_sample
from evalkit.errors import DataError
from evalkit.files.read import read_text
from evalkit.files.write import write_bytes, write_text
from evalkit.methods.layers.batch_norm import keep_pace
from evalkit.methods.states import save_state
from evalkit.metrics.segmentation import confusion, segmentation_scores
from evalkit.training.trial import StageTrial

KEPT = 256  # decoded images


_sample = functools.lru_cache(KEPT)(read_sample)
_mask = functools.lru_cache(KEPT)(read_mask)


def forget_images() -> None:
    """Before a training: the files may have changed since the last one."""
    _sample.cache_clear()
    _mask.cache_clear()


class QuietRunner(Runner):
    """A Runner that asks no compilers for their versions and copies no configuration; evalkit's record has both."""

    def _log_env(self, env_cfg: dict) -> None:
        pass

    def dump_config(self) -> None:
        pass


def run(config: Config, model: Config, device: str, seed: int, weights: Path | None, accumulate: int = 1) -> None:
    """Train the model as the configuration says; an interrupted training goes on from its last validation.

    Args:
        config: of mmengine's Runner, without its model.
        model: what `build` takes.
        device: cpu, cuda, cuda:N.
        seed: of the weights that are drawn, and of the order of the images.
        weights: of the pretrained encoder; none: trained from scratch.
        accumulate: parts that a batch is computed in.

    Raises:
        EvalkitError: the weights cannot be used. What else mmengine and torch raise is passed on.
    """
    forget_images()
    mmengine.device.utils.DEVICE = device  # the Runner has no other way to be told
    set_random_seed(seed)
    network: Any = build(model)
    if weights:
        load_encoder(network, weights)
    if accumulate > 1:
        keep_pace(network, accumulate)
        network.train_step = functools.partial(step_in_parts, network, accumulate)
    runner = QuietRunner(**config, model=network, cfg=RunnerConfig({}))
    runner.train()
    shutil.rmtree(runner.log_dir, ignore_errors=True)


def step_in_parts(network: Any, parts: int, data: dict, optim_wrapper: Any) -> dict[str, Tensor]:
    """What `train_step` of a model does, with the batch in parts, one after the other, whose gradients add up.

    Args:
        network: of mmengine.
        parts: as equal as can be; no more than samples.
        data: inputs and data_samples of the batch, a list each.
        optim_wrapper: of mmengine.

    Returns:
        The terms of the loss of the batch.
    """
    terms: dict[str, Tensor] = {}
    count = len(data["inputs"])
    for places in np.array_split(np.arange(count), min(parts, count)):
        part = {key: values[places[0] : places[-1] + 1] for key, values in data.items()}
        with optim_wrapper.optim_context(network):
            losses = network._run_forward(network.data_preprocessor(part, True), mode="loss")
        loss, logged = network.parse_losses(losses)
        optim_wrapper.backward(loss * (len(places) / count))
        for name, value in logged.items():
            terms[name] = terms.get(name, 0) + value.detach() * (len(places) / count)
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return terms


@DATASETS.register_module()
class ListedScenes(BaseDataset):
    """Scenes given as a list: stem, part, image, infrared (or None) and label, paths as text."""

    def __init__(self, scenes: Sequence[dict], classes: Sequence[str], pipeline: Sequence[dict]) -> None:
        self.scenes = list(scenes)
        super().__init__(metainfo={"classes": tuple(classes)}, pipeline=list(pipeline), serialize_data=False)

    def load_data_list(self) -> list[dict]:
        return [dict(scene) for scene in self.scenes]


@TRANSFORMS.register_module()
class ReadScene(BaseTransform):
    """Image and label as arrays. Three channels are in the order blue, green, red, which the colour jitter expects."""

    def __init__(self, label: bool) -> None:
        self.label = label

    def transform(self, results: dict) -> dict:
        pixels = _sample(Path(results["image"]), Path(results["infrared"]) if results["infrared"] else None)
        results["img"] = np.ascontiguousarray(pixels[..., ::-1]) if pixels.shape[2] == 3 else pixels.copy()
        results["img_shape"] = results["ori_shape"] = pixels.shape[:2]
        results["seg_fields"] = []
        if self.label:
            label = _mask(Path(results["label"]))
            if label.shape != pixels.shape[:2]:
                raise DataError(f"{results['label']} and {results['image']} differ in size.")
            results["gt_seg_map"], results["seg_fields"] = label.copy(), ["gt_seg_map"]
        return results


@METRICS.register_module()
class Counts(BaseMetric):
    """The confusion matrix of every image, and mIoU of each part over the classes that it has.

    Classes that a small held-out part does not show cannot be counted; the score that selects is over the others.
    """

    default_prefix = "mIoU"

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.counts: dict[str, dict[str, NDArray[np.int64]]] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            prediction = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy()
            matrix = confusion(prediction, _mask(Path(sample["label"])), self.classes)
            self.results.append((sample["part"], sample["stem"], matrix))

    def compute_metrics(self, results: list) -> dict[str, float]:
        self.counts = {}
        for part, stem, matrix in results:
            self.counts.setdefault(part, {})[stem] = matrix
        return {part: mean_iou(np.sum(list(counts.values()), axis=0)) for part, counts in self.counts.items()}


def mean_iou(matrix: NDArray[np.int64]) -> float:
    """mIoU over the classes that are in truth or prediction."""
    scores = segmentation_scores(matrix)
    return float(scores.get("mIoU (defined classes)", scores["mIoU"]))


@HOOKS.register_module()
class KeepCounts(Hook):
    """After every validation: a line of the history, and the state to go on from; where the held-out score is the best
    so far, the test counts and the weights.

    A training that goes on ends with the weights of an undisturbed one, on the same device.

    Args:
        folder: of the training.
        state: to go on from, as an earlier validation wrote it.
    """

    priority = "LOWEST"

    def __init__(self, folder: str, state: dict[str, Any] | None = None) -> None:
        self.folder, self.state = Path(folder), state

    def before_train(self, runner: Any) -> None:
        """Put everything back. Raises HistoryError where it is of another training."""
        if self.state is None:
            return
        state, loop = self.state, runner.train_loop
        try:
            runner.model.load_state_dict(state["model"])
            runner.optim_wrapper.load_state_dict(state["optimizer"])
            for scheduler, saved in zip(runner.param_schedulers, state["schedulers"], strict=True):
                scheduler.load_state_dict(saved)
            loop._iter = state["iteration"]
            loop.fast_forward_on_resume = True  # the loop would do the next line after this, and draw numbers
            loop.dataloader_iterator.skip_iter(loop._iter)
            loop.dataloader_iterator._ensure_iterator()
            set_random_state(state["random"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise HistoryError((str(error) or type(error).__name__).splitlines()[0][:200]) from None
        write_history(self.folder, state["history"])
        write_text(self.folder / "counts.csv", state["counts"])

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write what this validation gave."""
        assert metrics is not None
        history = [line for line in read_history(self.folder) if line["iteration"] < runner.iter]
        line = {"iteration": runner.iter, "val": metrics["mIoU/val"], "test": metrics["mIoU/test"]}
        model = {name: value.detach().cpu().contiguous().clone() for name, value in runner.model.state_dict().items()}
        if all(line["val"] > earlier["val"] for earlier in history):
            counts = runner.val_evaluator.metrics[0].counts["test"]
            write_counts(self.folder / "counts.csv", counts)
            write_bytes(self.folder / "best.safetensors", save(model))
        write_history(self.folder, [*history, line])
        state = {
            "iteration": runner.iter,
            "model": model,
            "optimizer": runner.optim_wrapper.state_dict(),
            "schedulers": [scheduler.state_dict() for scheduler in runner.param_schedulers],
            "history": [*history, line],
            "counts": read_text(self.folder / "counts.csv"),
            "random": random_state(),
        }
        save_state(self.folder / STATE, state)


@HOOKS.register_module()
class MeasureSteps(Hook):
    """Time, memory and losses of every iteration.

    Args:
        trial: is filled.
        device: on which the network runs.
    """

    priority = "VERY_HIGH"

    def __init__(self, trial: StageTrial, device: str) -> None:
        self.trial, self.device = trial, device

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.trial.begin(self.device)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        terms = {name: float(value) for name, value in outputs.items()}
        self.trial.end(self.device, {"total": terms.pop("loss"), **terms})
