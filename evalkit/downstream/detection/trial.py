"""`--steps N` of a detector: batches as its recipe has them, measured; nothing is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from evalkit.downstream.detection.recipe import DetectionRecipe, find_weights
from evalkit.downstream.detection.train import TrainJob, load_trainer, options_of, prepare_data
from evalkit.downstream.splits import Division
from evalkit.downstream.trial import labelled_pairs
from evalkit.errors import DataError
from evalkit.methods.fusers import choose_device
from evalkit.protocols.tasks import Job
from evalkit.protocols.use import DatasetUse
from evalkit.training.trial import StageTrial


def try_detector(job: Job, dataset: str, use: DatasetUse, recipe: DetectionRecipe, steps: int) -> StageTrial:
    """Some batches of the training of a detector, which is where ultralytics begins: in its warm-up each is a step.

    Args:
        job: the trial.
        dataset: the protocol's name of the data set.
        use: the protocol's of this data set.
        recipe: of the detector.
        steps: batches.

    Raises:
        EvalkitError: the data set, its boxes or the extra is not there.
        MemoryShortError: a batch that does not fit into the memory.
    """
    trainer = load_trainer()
    at_hand = labelled_pairs(job, dataset, use.split, "boxes", recipe.scenes)
    notes = list(at_hand.notes)
    try:
        weights, _ = find_weights(recipe, job.settings.checkpoints)
    except DataError:
        weights = None
        notes.append(f"random weights in place of {recipe.weights}")
    shares = [int(part) for part in recipe.ratio.split(":")]
    learned_from = round(at_hand.full * shares[0] / sum(shares))
    pairs = at_hand.repeated(steps * recipe.batch + 2)
    *train, val, test = pairs
    if len(train) > len(at_hand.pairs):
        notes.append("images are repeated to fill the batches")
    whole = recipe.epochs_for(learned_from) * -(-learned_from // recipe.batch)
    device = choose_device(job.settings.device)
    trial = StageTrial(recipe.network, "train", recipe.batch, 1, f"{recipe.size}x{recipe.size}", whole, notes=notes)
    with TemporaryDirectory(prefix="evalkit-steps-") as name:
        folder = Path(name)
        images = {stem: pair.visible for stem, pair in pairs.items()}
        data = prepare_data(folder / "data", pairs, images, Division(tuple(train), (val,), (test,)), at_hand.card)
        tried = TrainJob(folder / "trial", data, recipe, recipe.seeds[0], 1, "", weights, device, recipe.network)
        options = options_of(replace(tried, epochs=recipe.epochs_for(learned_from)))
        with trial.fitting():
            trainer.try_network(options, weights, trial, steps, device)
    return trial
