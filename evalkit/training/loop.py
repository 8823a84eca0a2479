"""The training loop: stages, optimisers per part, validation, checkpoints, and going on where a killed run stopped.

Every random number is drawn from (seed, epoch, step), so a run that is killed and resumed at any point ends with the
weights of an undisturbed one, on the same device with the same number of threads.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from evalkit.data.card import LabelClass, load_card
from evalkit.data.pairs import DataRoot, ImagePair, find_pairs
from evalkit.errors import DataError, EvalkitError
from evalkit.files.write import write_bytes
from evalkit.methods.checkpoints import load_strictly
from evalkit.methods.fusers import choose_device
from evalkit.methods.layers.batch_norm import keep_pace
from evalkit.methods.pretrained import pretrained_hashes
from evalkit.methods.states import remove_state, save_state, to_state
from evalkit.provenance import version
from evalkit.training.curves import draw_curves
from evalkit.training.data import Batch, Pairs, SamplePlace, batches, collate, divided, places
from evalkit.training.precision import MixedNetwork
from evalkit.training.recipe import Augment, Optimiser, Recipe, Stage
from evalkit.training.schedule import plateaus, rate
from evalkit.training.state import (
    BEST,
    LAST,
    LOG,
    OLDER,
    RESUME,
    Log,
    as_saved,
    read_resume,
    save_weights,
)
from evalkit.training.system import Moment, build_system

NOT_FINITE = "not-finite.safetensors"  # the batch that stopped a run, as `read_state` reads it
SAVE_EVERY = 300  # seconds between saves within a long epoch


class TrainingError(EvalkitError):
    """A training run that cannot go on: a loss that is not finite."""


@dataclass
class TrainingResult:
    """What a run gave.

    Attributes:
        folder: with best.safetensors, last.safetensors, log.csv and curves.png.
        weights: the best weights by the validation loss of the last stage, else the last ones.
        losses: (epoch, stage, mean training loss).
        seconds: of this call; `steps` it made.
        pretrained: published files that the training began with -> SHA-256.
    """

    folder: Path
    weights: Path
    losses: list[tuple[int, str, float]]
    seconds: float
    steps: int
    images_per_second: float
    peak_memory: int | None = None
    resumed_at: int = 0
    pretrained: dict[str, str] = field(default_factory=dict)


class Leg(NamedTuple):
    """One epoch of the plan."""

    round: int
    stage: Stage
    epoch: int  # within its stage and round


def plan(recipe: Recipe) -> list[Leg]:
    """All epochs in order."""
    return [
        Leg(round_, stage, epoch)
        for round_ in range(recipe.rounds)
        for stage in recipe.stages
        for epoch in range(stage.epochs)
    ]


@dataclass
class Progress:
    """How far the run is; with weights and optimisers it is the state that is saved."""

    epoch: int = 0
    step: int = 0  # within the epoch
    sums: dict[str, Any] = field(
        default_factory=dict
    )  # of terms over the steps of the epoch, `fetch`ed or on the device
    part_steps: dict[str, int] = field(default_factory=dict)
    part_epochs: dict[str, int] = field(default_factory=dict)
    part_losses: dict[str, list[float]] = field(default_factory=dict)  # mean loss of each epoch that a part learnt in
    best: float = math.inf
    pretrained: dict[str, str] = field(default_factory=dict)  # files that it began with -> SHA-256


def gather(recipe: Recipe, data_root: DataRoot) -> tuple[list[ImagePair], list[ImagePair], list[LabelClass], str]:
    """Pairs to learn from, pairs for validation, the box classes, and a hash of all of it.

    Raises:
        DataError: a data set that is not there, or too few pairs.
    """
    pairs: list[ImagePair] = []
    hashes, classes = [], []
    for name, split in recipe.data.datasets.items():
        card = load_card(name)
        available = find_pairs(card, data_root, split)
        random = torch.Generator().manual_seed(recipe.seed)
        count = max(1, round(recipe.data.shares.get(name, 1) * len(available.pairs)))
        drawn = torch.randperm(len(available.pairs), generator=random)[:count].tolist()
        pairs += [available.pairs[i] for i in sorted(drawn)]
        hashes.append(f"{name} {available.content_hash()}")
        classes = list(card.detection)
    holdout = recipe.data.holdout
    if len(pairs) <= holdout:
        raise DataError(f"{len(pairs)} pairs are too few: the recipe keeps {holdout} for validation.")
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(recipe.seed)).tolist()
    held = set(order[:holdout])
    digest = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    learned_from = [pair for i, pair in enumerate(pairs) if i not in held]
    return learned_from, [pairs[i] for i in sorted(held)], classes, digest


def make_optimiser(part: nn.Module, settings: Optimiser, no_decay: Sequence[Tensor]) -> Optimizer:
    """The optimiser of one part; parameters in `no_decay` have no weight decay.

    Args:
        part: what learns.
        settings: kind, rate, decay.
        no_decay: parameters that have no weight decay.
    """
    kept = {id(p) for p in no_decay}
    groups = [
        {"params": [p for p in part.parameters() if id(p) not in kept], "weight_decay": settings.weight_decay},
        {"params": [p for p in part.parameters() if id(p) in kept], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.kind == "sgd":
        return SGD(groups, lr=settings.lr, momentum=settings.momentum)
    return (Adam if settings.kind == "adam" else AdamW)(groups, lr=settings.lr)


class TrainingRun:
    """A training run; `train` makes and runs it."""

    def __init__(
        self,
        recipe: Recipe,
        fabric: Fabric,
        data_root: DataRoot,
        out: Path,
        weights: Path | None,
        workers: int,
        tell: Callable[[str], None],
        accumulate: int = 1,
    ) -> None:
        self.recipe, self.fabric, self.out, self.workers = recipe, fabric, out, workers
        self.accumulate = accumulate
        self.pairs, self.held, self.classes, self.data_hash = gather(recipe, data_root)
        torch.manual_seed(recipe.seed)
        self.system = build_system(recipe)
        self.parts = dict(self.system.parts())
        self.legs = plan(recipe)
        self.data: dict[Augment, Pairs] = {}
        self.progress = Progress()
        self.saved = read_resume(out, recipe, self.data_hash, tell, accumulate)
        self.pretrain(weights)
        if accumulate > 1:
            keep_pace(self.system.network, accumulate)
        named = dict(self.system.network.named_parameters())
        kept = [named[name] for name in self.system.no_decay()]
        optimisers = [make_optimiser(part, recipe.optimiser_of(name), kept) for name, part in self.parts.items()]
        self.model, *wrapped = fabric.setup(self.system, *optimisers)
        self.optimisers: dict[str, Any] = dict(zip(self.parts, wrapped, strict=True))
        self.mean = (
            AveragedModel(self.system.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
            if recipe.ema
            else None
        )
        if self.saved is not None:
            self._restore(self.saved)

    def pretrain(self, weights: Path | None) -> None:
        """Load the critics and, unless the run goes on, what begins with published weights. Raises DataError."""
        self.system.load_critics(weights)
        if self.saved is None:
            self.system.prepare(weights)
            files = [weights / name for name in self.system.recipe.weights.values()] if weights else []
            self.progress.pretrained = pretrained_hashes(*files)

    # --- state

    def _restore(self, saved: dict[str, Any]) -> None:
        """Go on from a state. Raises DataError where it is of the right run by name only."""
        try:
            self._copy(saved)
        except (DataError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(
                f"the state in {self.out / RESUME} is not of this training ({first[:120]}). "
                "Choose another --out, or --existing replace."
            ) from None

    def _copy(self, saved: dict[str, Any]) -> None:
        load_strictly(self.system.network, saved["network"], str(self.out / RESUME))
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][name])
            for parameter, values in optimiser.state.items():
                if any(v.numel() > 1 and v.shape != parameter.shape for v in values.values() if isinstance(v, Tensor)):
                    raise ValueError(f"the optimiser of {name} is of another network")
        if self.mean is not None:
            self.mean.load_state_dict(saved["mean"])
        if saved["precision"]:
            self.fabric.strategy.precision.load_state_dict(saved["precision"])
        self.progress = Progress(**saved["progress"])

    def save(self) -> None:
        """Write what a killed run needs; the last write of an epoch, so that it never runs ahead of the others."""
        if not self.fabric.is_global_zero:
            return
        self.fetch()
        content = {
            "recipe": self.recipe.hash,
            "data": self.data_hash,
            "accumulate": self.accumulate,
            "network": as_saved(self.system.network.state_dict()),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "mean": as_saved(self.mean.state_dict()) if self.mean else {},
            "precision": dict(self.fabric.strategy.precision.state_dict()),
            "progress": vars(self.progress),
        }
        save_state(self.out / RESUME, content)

    def weights(self) -> dict[str, Tensor]:
        """The weights that count: their mean where the recipe has one."""
        return dict((self.mean.module if self.mean else self.system.network).state_dict())

    def save_weights(self, name: str) -> None:
        if self.fabric.is_global_zero:
            about: dict[str, Any] = {"evalkit": version(), "data": self.data_hash, "epochs": self.progress.epoch}
            about["pretrained"] = self.progress.pretrained
            if self.accumulate > 1:
                about["accumulate"] = self.accumulate
            save_weights(self.out / name, self.weights(), self.recipe, about)

    # --- data

    def data_for(self, stage: Stage) -> Pairs:
        augment = stage.augment or self.recipe.augment
        if augment not in self.data:
            self.data[augment] = Pairs(self.pairs, augment, self.recipe.data.labels, self.classes, self.recipe.seed)
        return self.data[augment]

    def steps_of(self, stage: Stage) -> int:
        share = self.recipe.batch * self.fabric.world_size
        return self.recipe.steps or len(places(len(self.data_for(stage)), share, None, 0, 0))

    def batches(self, leg: Leg, epoch: int, start: int) -> Iterator[Batch]:
        """This process's share of the epoch's batches, from one step on.

        Args:
            leg: the epoch.
            epoch: its number in the run.
            start: step to begin with.
        """
        data, world = self.data_for(leg.stage), self.fabric.world_size
        order = places(len(data), self.recipe.batch * world, self.recipe.steps, self.recipe.seed, epoch)[start:]
        own: list[list[SamplePlace]] = [batch[self.fabric.global_rank :: world] for batch in order]
        return batches(data, own, self.workers)

    # --- learning

    def active(self, stage: Stage) -> list[str]:
        """The parts that learn in a stage. Raises DataError for one that the system does not have."""
        unknown = [name for name in stage.parts if name not in self.parts]
        if unknown:
            raise DataError(
                f"the recipe names parts {', '.join(unknown)}; {self.recipe.method} has {', '.join(self.parts)}."
            )
        return [name for name in self.parts if name in stage.parts] if stage.parts else list(self.parts)

    def set_modes(self, active: Sequence[str]) -> None:
        """Parts that do not learn are frozen and in evaluation mode."""
        self.system.train()
        for name, part in self.parts.items():
            part.train(name in active).requires_grad_(name in active)

    def moment(self, leg: Leg) -> Moment:
        made = max((self.progress.part_steps.get(name, 0) for name in self.active(leg.stage)), default=0)
        return Moment(leg.stage.name, leg.round, leg.epoch, made)

    def totals(self) -> dict[str, int]:
        """Steps that each part will have made in the end."""
        totals = dict.fromkeys(self.parts, 0)
        for leg in self.legs:
            for name in self.active(leg.stage):
                totals[name] += self.steps_of(leg.stage)
        return totals

    def learn(self, leg: Leg, batch: Batch, totals: dict[str, int]) -> dict[str, Tensor]:
        """One step. Raises TrainingError where the loss is not finite.

        Args:
            leg: the epoch.
            batch: on the device.
            totals: steps that each part will have made in the end.

        Returns:
            The terms of the loss and their total, float64, still on the device.
        """
        progress, active = self.progress, self.active(leg.stage)
        # dropout and the like draw from here
        place = (self.recipe.seed, progress.epoch, progress.step, self.fabric.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        for name in active:
            settings = self.recipe.optimiser_of(name)
            drops = 0
            if settings.schedule.kind == "plateau":
                drops = plateaus(progress.part_losses.get(name, []), settings.schedule.patience)
            steps, epochs = progress.part_steps.get(name, 0), progress.part_epochs.get(name, 0)
            for group in self.optimisers[name].param_groups:
                group["lr"] = rate(settings, steps, totals[name], epochs, drops)
            self.optimisers[name].zero_grad(set_to_none=True)
        logged: dict[str, Any] = {}
        for part, share in divided(batch, self.accumulate, self.system.shared):
            with self.enough_for_norm(part):
                terms = self.model(part, self.moment(leg))
            total = torch.stack([term.float() for term in terms.values()]).sum()
            self.refuse_nan(terms, total, part, leg)
            self.fabric.backward(total * share)
            for name, value in {"total": total, **terms, **self.system.noted}.items():
                logged[name] = logged.get(name, 0.0) + share * value.detach().double()
        for name in active:
            settings = self.recipe.optimiser_of(name)
            if settings.clip:
                if not settings.clip_scaled:
                    self.fabric.strategy.precision.unscale_gradients(self.optimisers[name].optimizer)
                for module in self.system.clipped(name):
                    nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
            self.optimisers[name].step()
            progress.part_steps[name] = progress.part_steps.get(name, 0) + 1
        if self.mean is not None:
            self.mean.update_parameters(self.system.network)
        return logged

    @contextmanager
    def enough_for_norm(self, batch: Batch) -> Iterator[None]:
        """Around a step: raises TrainingError where a BatchNorm has one value only to take its statistics from."""
        try:
            yield
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            count = len(next(iter(batch.values())))
            cure = "a smaller --accumulate" if self.accumulate > 1 else "a larger batch in the recipe"
            raise TrainingError(
                f"{self.recipe.method} has a BatchNorm of one value per image, and {count} at a time is too few: "
                f"take {cure}."
            ) from None

    def fetch(self) -> None:
        """Get the sums of the terms from the device, where they are added up: a fetch waits for all work on it."""
        self.progress.sums = {name: float(value) for name, value in self.progress.sums.items()}

    def refuse_nan(self, terms: dict[str, Tensor], total: Tensor, batch: Batch, leg: Leg) -> None:
        """Raise TrainingError where the loss is not finite, with the batch that caused it in a file.

        Args:
            terms: of the loss, by name.
            total: their sum.
            batch: which gave them; it is written beside the run.
            leg: the epoch.
        """
        if torch.isfinite(total):
            return
        path = self.out / NOT_FINITE
        write_bytes(path, to_state(batch))
        values = ", ".join(f"{name} {float(term.detach()):.4g}" for name, term in terms.items())
        raise TrainingError(
            f"the loss is not finite in epoch {self.progress.epoch}, step {self.progress.step} ({leg.stage.name}): "
            f"{values}. Pairs: {', '.join(batch['stems'])}; the batch is in {path}. "
            "Try a lower learning rate, or gradient clipping (`clip`), and start again with --existing replace."
        )

    @torch.no_grad()
    def validate(self, leg: Leg) -> dict[str, float]:
        """Mean terms over the pairs held out, from the middle of each; every process sees all of them."""
        data = Pairs(self.held, leg.stage.augment or self.recipe.augment, self.recipe.data.labels, self.classes)
        data.random, data.squares = False, None
        own = self.system.network.state_dict() if self.mean is not None else None
        if self.mean is not None:
            own = {key: value.clone() for key, value in own.items()}  # type: ignore[union-attr]
            self.system.network.load_state_dict(self.weights())
        self.system.eval()
        sums: dict[str, Any] = {}
        order = [SamplePlace(0, i, i) for i in range(len(data.pairs))]
        groups = [order[i : i + self.recipe.batch] for i in range(0, len(order), self.recipe.batch)]
        for group in groups:
            batch = self.fabric.to_device(collate([data[place] for place in group]))
            terms = self.model(batch, self.moment(leg))
            total = torch.stack([term.float() for term in terms.values()]).sum()
            for name, value in (("total", total), *terms.items()):
                sums[name] = sums.get(name, 0.0) + value.double() * len(group)
        if own is not None:
            self.system.network.load_state_dict(own)
        return {name: float(value) / len(order) for name, value in sums.items()}

    def steps(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Run what is left of the plan, one item per step."""
        progress, totals = self.progress, self.totals()
        log = Log(self.out / LOG, progress.epoch)
        saved = time.monotonic()
        while progress.epoch < len(self.legs):
            leg = self.legs[progress.epoch]
            active, count = self.active(leg.stage), self.steps_of(leg.stage)
            self.set_modes(active)
            for batch in self.batches(leg, progress.epoch, progress.step):
                for name, value in self.learn(leg, self.fabric.to_device(batch), totals).items():
                    progress.sums[name] = progress.sums.get(name, 0.0) + value
                progress.step += 1
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
                yield
            self.fetch()
            means = {name: self._over_processes(value / count) for name, value in progress.sums.items()}
            log.add(progress.epoch, leg.round, leg.stage.name, "train", means)
            for name in active:
                progress.part_epochs[name] = progress.part_epochs.get(name, 0) + 1
                progress.part_losses.setdefault(name, []).append(means["total"])
            text = f"epoch {progress.epoch + 1}/{len(self.legs)} {leg.stage.name}: loss {means['total']:.4f}"
            progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
            last = progress.epoch == len(self.legs)
            if self.held and (last or progress.epoch % self.recipe.validate_every == 0):
                valid = self.validate(leg)
                log.add(progress.epoch - 1, leg.round, leg.stage.name, "validation", valid)
                text += f", validation {valid['total']:.4f}"
                if leg.stage.name == self.recipe.stages[-1].name and valid["total"] < progress.best:
                    progress.best = valid["total"]
                    self.save_weights(BEST)
            if self.fabric.is_global_zero:
                log.write()
            self.save()
            saved = time.monotonic()
            tell(text)
        self.save_weights(LAST)
        if not self.held or not (self.out / BEST).is_file():
            self.save_weights(BEST)
        if self.fabric.is_global_zero:
            draw_curves(log, self.recipe, self.out / "curves.png")
        self.losses = log.series("train", "total")

    def _over_processes(self, value: float) -> float:
        if self.fabric.world_size == 1:
            return value
        mean: Any = self.fabric.all_reduce(torch.tensor(value, device=self.fabric.device), reduce_op="mean")
        return float(mean)


def train(
    recipe: Recipe,
    data_root: DataRoot,
    out: Path,
    *,
    weights: Path | None = None,
    device: str = "auto",
    devices: int = 1,
    workers: int | None = None,
    accumulate: int = 1,
    existing: str = "reuse",
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
    tell: Callable[[str], None] = lambda text: None,
) -> TrainingResult:
    """Train a network by its recipe, or finish what an interrupted run in the same folder began.

    Args:
        recipe: what to train and how.
        data_root: folder with the recipe's data sets, or several.
        out: folder for weights, log and curves.
        weights: folder with the pretrained weights that the recipe names.
        device: auto, cpu, cuda or cuda:N.
        devices: processes that train together, one GPU each (data parallel, gradients averaged); each takes the
            recipe's batch.
        workers: processes that read images; none on a CPU and 4 on a GPU when not given. Results do not depend on it.
        accumulate: parts that a batch is computed in, one after the other, where it does not fit into the memory: their
            gradients add up to the batch's, but BatchNorm takes its statistics, and a loss that sets the images of a
            batch against each other its value, from each part (docs/training.md lists which).
        existing: "reuse" an interrupted run, "replace" it, or "fail" where the folder holds one.
        progress: wraps the steps, called with (items, count, text).
        tell: gets a line per epoch, and one where a damaged state is passed over.

    Raises:
        DataError: data sets or weights that are missing or damaged; another run in the folder.
        TrainingError: a loss that is not finite, with the batch that caused it.
        OutputError: the folder cannot be written.
    """
    device = choose_device(device)
    if existing == "fail" and any((out / name).exists() for name in (RESUME, OLDER)):
        raise DataError(f"{out} holds a training run. Use --existing reuse or replace, or choose another --out.")
    if existing == "replace":
        remove_state(out / RESUME)
        for name in (OLDER, LAST, BEST, LOG, "curves.png", NOT_FINITE):
            (out / name).unlink(missing_ok=True)
    fabric = start_fabric(device, devices, recipe.precision)
    if workers is None:
        workers = 0 if device == "cpu" else 4
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    run = TrainingRun(recipe, fabric, data_root, Path(out), weights, workers, tell, accumulate)
    start, resumed = time.monotonic(), run.progress.epoch
    left = sum(run.steps_of(leg.stage) for leg in run.legs[resumed:]) - run.progress.step
    if fabric.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(fabric.device)
    made = sum(1 for _ in progress(run.steps(tell), left, f"train {recipe.title}"))
    seconds = time.monotonic() - start
    return TrainingResult(
        folder=Path(out),
        weights=Path(out) / BEST,
        losses=run.losses,
        seconds=seconds,
        steps=made,
        images_per_second=made * recipe.batch * fabric.world_size / max(seconds, 1e-9),
        peak_memory=torch.cuda.max_memory_allocated(fabric.device) if fabric.device.type == "cuda" else None,
        resumed_at=resumed,
        pretrained=run.progress.pretrained,
    )


def start_fabric(device: str, devices: int, precision: str) -> Fabric:
    """Started processes: one here, or `devices` of them."""
    kind, _, number = device.partition(":")
    if devices > 1 and number:
        raise EvalkitError(f"--device {device} names one GPU, --devices {devices} asks for more: leave the number out.")
    most = torch.cuda.device_count() if kind == "cuda" else max(2, os.cpu_count() or 1)
    if devices > most:
        raise EvalkitError(f"--devices {devices}: there are {most} here for --device {device}.")
    which: Any = [int(number)] if number else devices
    # a stage that leaves parts out leaves their gradients out
    strategy: Any = DDPStrategy(find_unused_parameters=True) if devices > 1 else "auto"
    if kind == "cpu" and precision == "16-mixed":
        precision = "32-true"  # half precision on a CPU is slow and is not what the recipe means
    plugins: Any = [] if precision == "32-true" else [MixedNetwork(precision, kind)]  # type: ignore[arg-type]
    fabric = Fabric(accelerator=kind, devices=which, strategy=strategy, plugins=plugins)
    fabric.launch()
    return fabric
