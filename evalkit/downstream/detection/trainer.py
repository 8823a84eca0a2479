"""ultralytics' trainer with evalkit's files: tensors and JSON in place of pickles, and all that a killed run needs.

Imported only after `environment.ultralytics()` has set the package up.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel

from evalkit.downstream.detection.state import STATE, DetectorStateError, is_state, keep_epochs
from evalkit.downstream.detection.weights import pretrained
from evalkit.downstream.environment import calm
from evalkit.downstream.random_state import random_state, set_random_state
from evalkit.errors import CheckpointError, StateWarning
from evalkit.files.write import write_bytes
from evalkit.methods.states import last_state, remove_state, save_state
from evalkit.methods.tensors import read_tensors
from evalkit.training.trial import StageTrial

FILES = BEST, LAST = ("best.safetensors", "last.safetensors")


class Trainer(DetectionTrainer):
    """Trains as its base does, and writes weights/best and last.safetensors and the state of every epoch.

    The state holds the random numbers, the order of the images, the images that mosaics are made of and gradients that
    wait for their step: a training that goes on ends with the weights of an undisturbed one, on the same device.

    Args:
        overrides: ultralytics' options; `resume` is whether a state is given.
        network: with pretrained weights to begin from; drawn anew when not given.
        state: to go on from.
    """

    def __init__(self, overrides: dict[str, Any], network: nn.Module | None, state: dict[str, Any] | None) -> None:
        self.state = state
        self.batch, self.stepped, self.running = -1, -1, False
        super().__init__(overrides=overrides | {"resume": state is not None})
        if network is not None and state is None:
            self.model = self.get_model(weights=network, cfg=network.yaml)

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """The base opens a file here."""
        self.resume = bool(self.args.resume)

    # the base counts batches since the last step in a variable of its loop, which cannot be restored: here it is asked
    # to step after every batch, and `optimizer_step` waits for the number that was meant

    @property
    def accumulate(self) -> int:
        return 1 if self.running else self.meant

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self.meant = batches

    def optimizer_step(self) -> None:
        """A step where enough batches were seen."""
        if self.batch - self.stepped >= self.meant:
            super().optimizer_step()
            self.stepped = self.batch

    def run_callbacks(self, event: str) -> None:
        """The base's own, and the counting of batches."""
        if event == "on_train_start":
            self.running = True
        elif event == "on_train_epoch_start":
            self.batch = self.epoch * len(self.train_loader) - 1
            self.stepped = min(self.stepped, self.batch)
            if self.state is not None:
                self.restore_last(self.state)
                self.state = None
        elif event == "on_train_batch_start":
            self.batch += 1
        super().run_callbacks(event)

    def save_model(self) -> bool:
        """Weights as the base saves them, the mean of the training's in half precision; then the state."""
        state = self.ema.ema.state_dict()
        half = {name: torch.nan_to_num(v.half()) if v.is_floating_point() else v for name, v in state.items()}
        data = save({name: value.detach().cpu().contiguous().clone() for name, value in half.items()})
        write_bytes(self.wdir / LAST, data)
        if self.best_fitness == self.fitness:
            write_bytes(self.wdir / BEST, data)
        stopper = self.stopper
        waiting = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        content = {
            "epoch": int(self.epoch),
            "stop": bool(self.stop),
            "model": self.model.state_dict(),
            "ema": state,
            "updates": int(self.ema.updates),
            "optimizer": self.optimizer.state_dict(),
            "gradients": waiting,
            "batch": self.batch,
            "stepped": self.stepped,
            "best_fitness": float(self.best_fitness),
            "stopper": {"best_fitness": float(stopper.best_fitness), "best_epoch": int(stopper.best_epoch)},
            "order": self.train_loader.generator.get_state(),
            "buffer": [int(i) for i in self.train_loader.dataset.buffer],
            "random": random_state(),
        }
        save_state(self.wdir / STATE, content)
        return True

    def resume_training(self, ckpt: Any) -> None:
        """Weights, their mean, optimiser and the order of the images, from the state given."""
        if self.state is None:
            return
        state = self.state
        try:
            self.model.load_state_dict(state["model"])
            mean = deepcopy(self.model)
            mean.load_state_dict(state["ema"])
            super().resume_training({**state, "ema": mean})
            loader, closes = self.train_loader, max(0, self.epochs - self.args.close_mosaic)
            if self.args.close_mosaic and self.start_epoch > closes:
                loader.reset = lambda: None  # it was reset in the epoch that closed the mosaics
            loader.iterator = loader._get_iterator()  # draws a number
            loader.generator.set_state(state["order"])
            for i in state["buffer"]:
                loader.dataset.load_image(i)
            self.stepped = state["stepped"]
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
            raise DetectorStateError((str(error) or type(error).__name__).splitlines()[0][:200]) from None
        keep_epochs(self.csv, self.start_epoch)

    def restore_last(self, state: dict[str, Any]) -> None:
        """What the base's preparations change: gradients and random numbers."""
        try:
            for name, parameter in self.model.named_parameters():
                if name in state["gradients"]:
                    parameter.grad = state["gradients"][name].to(parameter).reshape(parameter.shape)
            set_random_state(state["random"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DetectorStateError((str(error) or type(error).__name__).splitlines()[0][:200]) from None

    def final_eval(self) -> None:
        """Nothing: the base opens its weights and validates them once more; evalkit predicts with them."""

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """The base opens its last weights and draws other numbers; here the training ends."""
        values = (self.loss, self.fitness)
        if epoch > self.start_epoch and not all(
            torch.isfinite(torch.as_tensor(v)).all() for v in values if v is not None
        ):
            raise RuntimeError(f"the loss or the fitness is not finite in epoch {epoch + 1}")
        return False


class TrialOverError(Exception):
    """As many batches were seen as were asked for."""


class TrialTrainer(Trainer):
    """Measures some batches and stops before anything is validated or saved.

    Args:
        overrides: ultralytics' options.
        network: with pretrained weights; drawn anew when not given.
        trial: is filled.
        steps: batches.
        device: on which they are computed.
    """

    def __init__(
        self, overrides: dict[str, Any], network: nn.Module | None, trial: StageTrial, steps: int, device: str
    ) -> None:
        self.trial, self.asked, self.place = trial, steps, device
        super().__init__(overrides, network, None)

    def run_callbacks(self, event: str) -> None:
        super().run_callbacks(event)
        if event == "on_train_batch_start":
            self.trial.begin(self.place)
        elif event == "on_train_batch_end":
            terms = {name: float(value) for name, value in self.loss_items.items()}
            self.trial.end(self.place, {"total": sum(terms.values()), **terms})
            if len(self.trial.seconds) == self.asked:
                raise TrialOverError

    def _clear_memory(self, threshold: float | None = None) -> None:
        """Where memory ran out the base would go on with half of the batch."""
        if getattr(self, "_oom_retries", 0):
            raise MemoryError
        super()._clear_memory(threshold)


def try_network(options: dict[str, Any], begins: Path | None, trial: StageTrial, steps: int, device: str) -> None:
    """Measure some batches of a training.

    Args:
        options: ultralytics'; the trial's network, batch and schedule.
        begins: pretrained weights; none: the network is drawn.
        trial: is filled.
        steps: batches.
        device: on which they are computed.

    Raises:
        DataError: pretrained weights of another network. What ultralytics and PyTorch raise is passed on.
    """
    with calm(), suppress(TrialOverError):
        network = None if begins is None else pretrained(YOLO(options["model"]).model, begins)
        TrialTrainer(options, network, trial, steps, device).train()


def _say(text: str) -> None:
    warnings.warn(text, StateWarning, stacklevel=3)


def readable(weights: Path, title: str) -> bool:
    """Whether the weights of a finished training can be read; where not it is said."""
    try:
        for name in FILES:
            read_tensors(weights / name)
    except CheckpointError as error:
        _say(f"{str(error).rstrip('.')}: the training of {title} starts again.")
        return False
    return True


def forget_state(weights: Path) -> None:
    """Remove what served to go on."""
    remove_state(weights / STATE)


def train_network(
    options: dict[str, Any], weights: Path, begins: Path | None, title: str, watch: Callable[[Trainer, int], None]
) -> None:
    """Train, from the last state that can be used.

    Args:
        options: ultralytics'.
        weights: the folder with weights and states.
        begins: pretrained weights; none: the network is drawn.
        title: of the training, for what is said.
        watch: called with the trainer and the number of epochs that are done.

    Raises:
        DataError: pretrained weights of another network. What ultralytics and PyTorch raise is passed on.
    """
    state = last_state(weights / STATE, _say, is_state)
    if state is None and (weights / "last.pt").exists():
        _say(f"{weights} holds a training of an older version of evalkit, cut short: {title} starts again.")
    if state is not None and (state["stop"] or state["epoch"] + 1 >= options["epochs"]):
        return
    with calm():
        network = None
        if state is None and begins is not None:
            network = pretrained(YOLO(options["model"]).model, begins)
        trainer = Trainer(options, network, state)
        watch(trainer, 0 if state is None else state["epoch"] + 1)
        try:
            trainer.train()
            return
        except DetectorStateError as error:
            reason = str(error)
    _say(f"the state in {weights} is not of this training ({reason}): {title} starts again.")
    forget_state(weights)
    train_network(options, weights, begins, title, watch)


def detector(yaml: str, names: list[str], path: Path) -> YOLO:
    """A detector with the weights in a file that `Trainer` wrote.

    Args:
        yaml: ultralytics' name of the network.
        names: of the classes.
        path: the weights.

    Raises:
        CheckpointError: damaged, or of another network.
    """
    network = DetectionModel(yaml, nc=len(names), verbose=False)
    state: dict[str, Tensor] = read_tensors(path)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"the weights {path} are not of {yaml} ({first}).") from None
    network.names = dict(enumerate(names))
    network.task = "detect"
    model = YOLO(yaml)
    model.model = network.eval()
    return model
