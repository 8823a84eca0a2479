"""`evalkit train --steps N`: a recipe as it stands, N steps of every stage, measured; nothing is kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from evalkit.data.card import load_card
from evalkit.data.pairs import DataRoot
from evalkit.methods.fusers import choose_device
from evalkit.training.data import Batch, batches, places
from evalkit.training.loop import NOT_FINITE, TrainingRun, plan, start_fabric
from evalkit.training.recipe import Recipe, Stage
from evalkit.training.trained import on_samples, training_scenes
from evalkit.training.trial import StageTrial, pairs_at_hand


class TrialRun(TrainingRun):
    """A run that makes a few steps of each stage, by the rates and schedules of the whole recipe.

    Attributes:
        share: pairs of the recipe's training set per pair at hand.
        missing: parts whose published weights are not at hand: they begin, or judge, with random ones.
    """

    def __init__(self, *args: Any, share: float, **options: Any) -> None:
        self.share = share
        self.missing: list[str] = []
        super().__init__(*args, **options)

    def pretrain(self, weights: Path | None) -> None:
        files = self.recipe.weights
        self.missing = [part for part, name in files.items() if weights is None or not (weights / name).is_file()]
        there = {part: name for part, name in files.items() if part not in self.missing}
        self.system.recipe = self.recipe.model_copy(update={"weights": there})
        super().pretrain(weights)
        self.system.random_critics(self.missing)

    def steps_of(self, stage: Stage) -> int:
        """Steps per epoch on the whole training set."""
        return self.recipe.steps or max(1, round(len(self.data_for(stage)) * self.share) // self.recipe.batch)

    def trials(self, steps: int) -> Iterable[tuple[StageTrial, Callable[[], None]]]:
        """Every stage, in the first round and, where there are more, in the second, whose loss may have other terms:
        the trial, and as often as there are steps, what makes one of them.
        """
        progress, totals = self.progress, self.totals()
        device, parts = str(self.fabric.device), min(self.accumulate, self.recipe.batch)
        for number, leg in enumerate(self.legs):
            if leg.epoch or leg.round > 1:
                continue
            stage, data = leg.stage, self.data_for(leg.stage)
            rounds = 1 if self.recipe.rounds == 1 else 1 if leg.round == 0 else self.recipe.rounds - 1
            name = stage.name if self.recipe.rounds == 1 else f"{stage.name}, round {leg.round + 1}"
            whole = self.steps_of(stage) * stage.epochs * rounds
            trial = StageTrial(self.recipe.title, name, self.recipe.batch, parts, "", whole)
            progress.epoch, progress.step = number, 0
            self.set_modes(self.active(stage))
            order = places(len(data), self.recipe.batch, steps, self.recipe.seed, number)
            for batch in batches(data, order, self.workers):
                trial.sample = "x".join(map(str, batch["infrared"].shape[-2:]))

                def make(batch: Batch = batch, trial: StageTrial = trial, leg: Any = leg) -> None:
                    with trial.fitting():
                        trial.begin(device)
                        terms = self.learn(leg, self.fabric.to_device(batch), totals)
                        trial.end(device, {name: float(value) for name, value in terms.items()})

                yield trial, make
                progress.step += 1


def try_recipe(
    recipe: Recipe,
    data_root: DataRoot | None,
    steps: int,
    *,
    weights: Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    accumulate: int = 1,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
) -> list[StageTrial]:
    """Some steps of every stage of a recipe: full width, full crop, full batch, the published rates.

    Everything is written to a temporary folder, which is removed, but for a batch whose loss is not finite.

    Args:
        recipe: what is tried.
        data_root: folder with the recipe's data sets, or with fewer pairs of them; None: generated scenes.
        steps: of each stage.
        weights: folder with the pretrained weights that the recipe names; random ones take the place of missing ones.
        device: auto, cpu, cuda or cuda:N.
        workers: processes that read images.
        accumulate: parts that a batch is computed in.
        progress: wraps the steps, called with (items, count, text).

    Returns:
        The stages, with notes on what is not as in a real training.

    Raises:
        DataError: a data set of which there are no pairs at all, or weights of another network.
        MemoryShortError: a step that does not fit into the memory.
        TrainingError: a loss that is not finite.
    """
    device = choose_device(device)
    folder = Path(tempfile.mkdtemp(prefix="evalkit-steps-"))
    notes = []
    try:
        if data_root is None:
            recipe, data_root = on_samples(recipe), training_scenes(folder / "data", progress)
            notes.append("generated scenes in place of the recipe's data sets")
        recipe, share, lacking = at_hand(recipe, data_root)
        notes += lacking
        fabric = start_fabric(device, 1, recipe.precision)
        if fabric.device.type == "cpu" and recipe.precision == "16-mixed":
            notes.append("full precision: a CPU does without the recipe's half")
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        workers = (0 if device == "cpu" else 4) if workers is None else workers
        run = TrialRun(recipe, fabric, data_root, folder, weights, workers, _silent, accumulate, share=share)
        notes += [f"random weights in place of {recipe.weights[part]} ({part})" for part in run.missing]
        done: list[StageTrial] = []
        legs = [leg for leg in plan(recipe) if leg.epoch == 0 and leg.round < 2]
        for trial, make in progress(run.trials(steps), steps * len(legs), f"try {recipe.title}"):
            make()
            if not done or trial is not done[-1]:
                trial.notes = list(notes)
                done.append(trial)
    finally:
        if not (folder / NOT_FINITE).is_file():
            shutil.rmtree(folder, ignore_errors=True)
    return done


def at_hand(recipe: Recipe, data_root: DataRoot) -> tuple[Recipe, float, list[str]]:
    """The recipe on the pairs that are there, pairs wanted per pair at hand, and in words what is lacking.

    A split that is not there is replaced by another one of the same data set: a trial learns nothing.

    Raises:
        DataError: a data set of which nothing is there.
    """
    datasets: dict[str, str | None] = {}
    notes: list[str] = []
    wanted, there = 0.0, 0.0
    for name, split in recipe.data.datasets.items():
        card = load_card(name)
        pair_set, other = pairs_at_hand(card, data_root, split)
        pairs, datasets[name] = pair_set.pairs, pair_set.split
        notes += other
        part, full = recipe.data.shares.get(name, 1), card.expected(split) or len(pairs)
        wanted, there = wanted + part * full, there + part * len(pairs)
        if len(pairs) < full:
            notes.append(f"{name}: {len(pairs)} of {full} pairs are at hand; the whole recipe is reckoned with {full}")
    data = recipe.data.model_copy(update={"datasets": datasets})
    return recipe.model_copy(update={"data": data}), wanted / there, notes


def _silent(text: str) -> None:
    """There is no state that could be damaged."""
