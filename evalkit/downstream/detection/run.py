"""One data set of a detection table: its lists, its rows' images, the detectors trained on them, and their records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from evalkit.data.hashes import combine_hashes
from evalkit.downstream.detection.recipe import DetectionRecipe, find_weights
from evalkit.downstream.detection.train import (
    WEIGHTS,
    TrainJob,
    finished,
    job_key,
    predictions,
    prepare_data,
    train,
    truths,
)
from evalkit.downstream.images import Images, attempted, conditions, folder, fused_images, pairs_by_stem, sample_root
from evalkit.downstream.splits import Division, divide
from evalkit.downstream.spread import Score, mean_and_spread, paired_bootstrap, remembered
from evalkit.errors import DataError, EvalkitError
from evalkit.files.names import file_name
from evalkit.files.write import write_text
from evalkit.methods.fusers import choose_device
from evalkit.methods.pretrained import pretrained_hashes
from evalkit.metrics.detection import Boxes, DrawnAP50, detection_scores
from evalkit.protocols.plan import Row
from evalkit.protocols.summary import now
from evalkit.protocols.table.published import column_name
from evalkit.protocols.tasks import Job
from evalkit.protocols.use import DatasetUse
from evalkit.records.record import Record, made_here

AP50 = "AP50"
BASELINE = "Visible"  # the row that differences are taken to


@dataclass
class DetectionResult:
    """What was measured of one row: column -> value per seed, and columns -> why there is none."""

    seeds: dict[int, dict[str, float]] = field(default_factory=dict)
    last: dict[int, dict[str, float]] = field(default_factory=dict)  # of the last epoch's weights
    missing: dict[str, str] = field(default_factory=dict)
    boxes: dict[int, dict[str, Boxes]] = field(default_factory=dict)
    reason: str = ""


class DetectionRun:
    """One data set: its lists, its rows' images, and the detectors."""

    def __init__(self, job: Job, dataset: str, use: DatasetUse, recipe: DetectionRecipe, variant: str) -> None:
        self.weights, self.weights_hash = find_weights(recipe, job.settings.checkpoints)
        if self.weights is not None:
            recipe = recipe.model_copy(update={"weights": self.weights.name})
        self.job, self.recipe = job, recipe
        scenes = recipe.scenes
        root = sample_root(job, scenes.count, scenes.seed, scenes.width, scenes.height) if job.sample else job.root
        assert root is not None
        self.images: Images = fused_images(job, dataset, use, "boxes", root)
        stems = tuple(pair.stem for pair in self.images.pairs.pairs)
        self.strata = conditions(dataset, stems)
        self.split: Division = divide(stems, recipe.ratio, recipe.split, recipe.split_seed, self.strata)
        self.conditions = list(dict.fromkeys(filter(None, self.strata.values())))
        self.out = folder(job.settings.out, "detection", dataset, variant)
        self.split.write(self.out / "split.csv")
        self.names = [label.name for label in self.images.card.detection]
        self.device = choose_device(job.settings.device)

    def measure(self) -> dict[str, DetectionResult]:
        """Method -> what was found; trains what is not trained yet."""
        settings = self.job.settings
        rows = [row for row in self.images.rows if not row.reason]
        results = {row.method: DetectionResult(reason=row.reason) for row in self.images.rows}
        pairs = pairs_by_stem(self.images)
        jobs = {}
        places = {row.method: self.out / file_name(row.method) for row in rows}
        for row in list(rows):
            try:
                prepare_data(places[row.method] / "data", pairs, row.fused, self.split, self.images.card)
            except DataError as error:
                results[row.method].reason = settings.named(str(error))
                rows.remove(row)
        for seed in self.recipe.seeds:  # all rows with one seed first: a run that is stopped early has a whole table
            for row in rows:
                jobs[row.method, seed] = self.train_job(row, seed, places[row.method])
        if settings.existing == "replace":
            for train_job in jobs.values():
                train_job.folder.joinpath("started.json").unlink(missing_ok=True)
                train_job.folder.joinpath("done.json").unlink(missing_ok=True)
        todo = {place: train_job for place, train_job in jobs.items() if not finished(train_job)}
        gpu = self.device != "cpu"
        if not settings.engine.remote and (gpu or settings.engine.slots() == 1 or len(todo) == 1):
            shown = partial(train, progress=settings.progress)  # one after the other, epochs shown
            reasons: Iterable[str] = map(partial(attempted, shown), todo.values())
        else:  # side by side, on one thread each
            done = settings.engine.map(partial(attempted, train), todo.values(), gpu=gpu, limited=False)
            reasons = settings.progress(done, len(todo), f"train {self.recipe.network}")
        for (method, _), reason in zip(todo, reasons, strict=True):
            results[method].reason = results[method].reason or settings.named(reason)
        truth: Mapping[str, Boxes] = {}
        for (method, seed), train_job in jobs.items():
            if results[method].reason:
                continue
            for which in WEIGHTS:
                boxes, sizes = predictions(train_job.folder, which)
                truth = truths(train_job.data, sizes, len(self.names))
                scores, missing = self.score(boxes, truth)
                (results[method].seeds if which == "best" else results[method].last)[seed] = scores
                results[method].missing = missing
                if which == "best":
                    results[method].boxes[seed] = boxes
        if truth:
            self.truth = truth
            self.differences(results)
        return results

    def train_job(self, row: Row, seed: int, place: Path) -> TrainJob:
        """The training of one detector: its folder, its data, and the key of everything that it depends on.

        Args:
            row: whose fused images are learned from; all are there.
            seed: of the training.
            place: the row's folder, with the data set in `data/`.
        """
        labels = [(pair.stem, self.images.hashes[pair.labels["boxes"]]) for pair in self.images.pairs.pairs]
        hashes = self.images.fused_hash(row), combine_hashes(labels)
        key = job_key(self.recipe, seed, self.split, *hashes, self.weights_hash)
        epochs = self.recipe.epochs_for(len(self.split.train))
        title = f"{self.recipe.network} on {row.method}, seed {seed}"
        data = place / "data" / "data.yaml"
        return TrainJob(place / f"seed{seed}", data, self.recipe, seed, epochs, key, self.weights, self.device, title)

    def score(self, boxes: Mapping[str, Boxes], truth: Mapping[str, Boxes]) -> tuple[dict[str, float], dict[str, str]]:
        """AP50 per class, their mean, and the mean in every condition; and what has no value."""
        whole = detection_scores(boxes, truth, self.names)
        scores = whole[AP50] | {"mean": whole[f"m{AP50}"]}
        measures = {f"{AP50} {name}": name for name in self.names} | {f"m{AP50}": "mean"}
        missing = {measures[measure]: why for measure, why in whole["missing"].items() if measure in measures}
        for condition in self.conditions:
            stems = [stem for stem in truth if self.strata[stem] == condition]
            if not stems:
                missing[f"mean ({condition})"] = f"no test image was taken by {condition}"
                continue
            part = detection_scores({s: boxes[s] for s in stems}, {s: truth[s] for s in stems}, self.names)
            scores[f"mean ({condition})"] = part[f"m{AP50}"]
            if f"m{AP50}" in part["missing"]:
                missing[f"mean ({condition})"] = part["missing"][f"m{AP50}"]
        return {name: value for name, value in scores.items() if name not in missing}, missing

    def differences(self, results: Mapping[str, DetectionResult]) -> None:
        """differences.json: mAP50 of each method minus that of Visible, with the interval of a paired bootstrap."""
        if BASELINE not in results or results[BASELINE].reason or "mean" in results[BASELINE].missing:
            return
        stems = sorted(self.truth)
        baseline = remembered(self.drawn(stems, results[BASELINE]))
        intervals = {}
        for method, result in results.items():
            if method == BASELINE or result.reason:
                continue
            try:
                intervals[method] = vars(paired_bootstrap(self.drawn(stems, result), baseline, len(stems)))
            except EvalkitError as error:
                intervals[method] = {"missing": str(error)}
        text = {"of": f"mean {AP50}", "minus": BASELINE, "images": len(stems), "recipe": self.recipe.summary}
        write_text(self.out / "differences.json", json.dumps(text | {"methods": intervals}, indent=1) + "\n")

    def drawn(self, stems: list[str], result: DetectionResult) -> Score:
        """Mean AP50 over the seeds on drawn images; a repeated image counts as another one."""
        truth = [self.truth[stem] for stem in stems]
        seeds = [DrawnAP50([boxes[stem] for stem in stems], truth, len(self.names)) for boxes in result.boxes.values()]
        return lambda draw: float(np.mean([one(draw) for one in seeds]))

    def record(self, row: Row, result: DetectionResult, other: str, started: str) -> Record:
        """What was measured of one row, per seed, with everything that it depends on.

        Args:
            row: the method, and where its images come from.
            result: its scores per seed, AP50 in [0, 1].
            other: why it was not trained and tested as in the paper.
            started: when the run began, as `now` writes it.
        """
        reason_for_none = result.reason
        columns = [*self.names, "mean", *(f"mean ({c})" for c in self.conditions)]
        scores, spread, missing = {}, {}, {}
        for class_ in columns:
            name = column_name(class_, AP50)
            if reason := reason_for_none or result.missing.get(class_, ""):
                missing[name] = reason
            else:
                scores[name], spread[name] = mean_and_spread([s[class_] for s in result.seeds.values()])
        method = {
            **self.images.method_fields(row, self.job, self.split, reason_for_none),
            "detector": self.recipe.network,
            "stands_for": self.recipe.stands_for,
            "pretrained": pretrained_hashes(self.weights),
            "other_training": other,
            "recipe": self.recipe.summary,
            "recipe_hash": self.recipe.hash,
            "selection": "best on validation by ultralytics' fitness",
            "per_seed": {str(seed): scores for seed, scores in result.seeds.items()},
            "per_seed_last_epoch": {str(seed): scores for seed, scores in result.last.items()},
            "spread": spread,
        }
        return Record(
            status="incomplete" if missing else "complete",
            protocol={"name": self.job.protocol.name, "hash": self.job.protocol.hash},
            method=method,
            dataset=self.images.dataset_fields(self.split, f"{self.recipe.ratio}, {self.recipe.split}"),
            convention="coco",
            metrics=[f"{column_name(class_, AP50)}[coco]" for class_ in columns],
            images=0 if reason_for_none else len(self.split.test),
            scores=scores,
            missing=missing,
            failures=[],
            provenance=made_here(self.device),
            seeds={f"detector {i}": seed for i, seed in enumerate(self.recipe.seeds)}
            | {"lists": self.recipe.split_seed},
            started=started,
            finished=now(),
        )
