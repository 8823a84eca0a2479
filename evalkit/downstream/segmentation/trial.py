"""`--steps N` of a segmentation network: iterations as its recipe has them, measured; nothing is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from evalkit.downstream.environment import need, set_variables
from evalkit.downstream.segmentation.networks import find_weights, segmenter
from evalkit.downstream.segmentation.recipe import SegmentationSchedule
from evalkit.downstream.segmentation.train import LabelledImage, Training, try_training
from evalkit.downstream.trial import labelled_pairs
from evalkit.methods.fusers import choose_device
from evalkit.protocols.tasks import Job
from evalkit.training.trial import StageTrial


def try_segmenters(job: Job, dataset: str, schedules: Sequence[SegmentationSchedule], steps: int) -> list[StageTrial]:
    """Some iterations of the training of each network.

    Args:
        job: the trial.
        dataset: the protocol's name of the data set, whose training split is learned from.
        schedules: of the networks.
        steps: iterations.

    Raises:
        EvalkitError: the data set, its masks or the extra is not there.
        MemoryShortError: an iteration that does not fit into the memory.
    """
    need("segmentation")
    set_variables()
    at_hand = labelled_pairs(job, dataset, "train", "classes", schedules[0].scenes)
    held = 0 if "val" in (split.name for split in at_hand.card.splits) else at_hand.full // 10
    classes = tuple(label.name for label in at_hand.card.segmentation)
    trials = []
    for schedule in job.settings.progress(schedules, len(schedules), "try"):
        notes = list(at_hand.notes)
        card, weights = segmenter(schedule.network).card, None
        if not schedule.reduced:
            weights = find_weights(schedule.network, job.settings.checkpoints)
            if weights is None and card.encoder:
                notes.append(f"random weights in place of {card.encoder} ({schedule.network})")
        pairs = at_hand.repeated(at_hand.full - held)
        if len(pairs) > len(at_hand.pairs):
            notes.append("images are repeated to fill the epochs")
        scenes = [
            LabelledImage(
                stem,
                pair.visible.absolute(),
                pair.labels["classes"].absolute(),
                pair.infrared.absolute() if card.streams == 2 else None,
            )
            for stem, pair in pairs.items()
        ]
        height, width = schedule.cut
        parts = min(job.settings.accumulate, schedule.batch)
        trial = StageTrial(
            schedule.network,
            "train",
            schedule.batch,
            parts,
            f"{height}x{width}",
            schedule.length(len(pairs)),
            notes=notes,
        )
        with TemporaryDirectory(prefix="evalkit-steps-") as name:
            training = Training(
                schedule, {"train": scenes, "val": (), "test": ()}, classes, Path(name), 0, "trial", weights
            )
            device = choose_device(job.settings.device)
            with trial.fitting():
                try_training(replace(training, device=device, accumulate=parts), trial, steps)
        trials.append(trial)
    return trials
