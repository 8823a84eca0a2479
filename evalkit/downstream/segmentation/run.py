"""One network on every row of a data set: trained, counted, compared, recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evalkit.data.hashes import file_hash
from evalkit.downstream.images import attempted, folder
from evalkit.downstream.segmentation.networks import find_weights, segmenter
from evalkit.downstream.segmentation.recipe import SegmentationSchedule
from evalkit.downstream.segmentation.scenes import SegmentationScenes
from evalkit.downstream.segmentation.train import REVISION, TrainedSegmenter, Training, finished, train_segmenter
from evalkit.downstream.spread import mean_and_spread, paired_bootstrap
from evalkit.errors import EvalkitError
from evalkit.files.write import write_text
from evalkit.methods.fusers import choose_device
from evalkit.methods.pretrained import pretrained_hashes
from evalkit.metrics.segmentation import segmentation_scores
from evalkit.protocols.plan import Row, file_name
from evalkit.protocols.summary import now
from evalkit.protocols.tasks import Job
from evalkit.records.record import Record, made_here

BASELINE = "Visible"  # the row that differences are taken to
MEASURES = ("IoU", "Acc")
OF = "mean IoU over the seeds and the classes that the drawn images show"
SHOWN = "mean (classes shown)"  # over those that the test images show, where these are not all


@dataclass(frozen=True)
class Variant:
    """A network as a block of the table."""

    name: str  # "SegNeXt-Base", or "SegNeXt-T, recipe small"
    schedule: SegmentationSchedule
    published: bool


@dataclass
class SegmentationResult:
    """What was measured of one row: per seed, column -> value; column -> why it has none; or why the row has none."""

    seeds: dict[int, dict[str, float]] = field(default_factory=dict)
    trained: dict[int, TrainedSegmenter] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    reason: str = ""


class SegmentationRun:
    """A network on these methods' images of a data set; one of two streams on the sources."""

    def __init__(self, job: Job, scenes: SegmentationScenes, variant: Variant, methods: Collection[str]) -> None:
        self.job, self.scenes, self.variant, self.schedule = job, scenes, variant, variant.schedule
        self.two_streams = segmenter(self.schedule.network).streams == 2
        self.rows = [row for row in scenes.images.rows if row.method in methods]
        if self.two_streams:  # on the sources
            visible = {pair.stem: pair.visible for pair in scenes.images.pairs.pairs}
            self.rows = [Row(method, "data set", fused=visible) for method in methods]
        self.weights = None  # none fits a network smaller than published
        if not self.schedule.reduced:
            self.weights = find_weights(self.schedule.network, job.settings.checkpoints)
        self.weights_hash = file_hash(self.weights) if self.weights else ""
        self.out = folder(job.settings.out, "segmentation", scenes.images.pairs.dataset, variant.name)
        self.device = choose_device(job.settings.device)
        scenes.split.write(self.out / "split.csv")

    @property
    def columns(self) -> list[str]:
        """Of the scores: "car IoU", ..., "mean IoU", "mean (night) IoU", ..."""
        some = [SHOWN] if len(self.scenes.shown) < len(self.scenes.names) else []
        classes = [*self.scenes.names, "mean", *some, *(f"mean ({c})" for c in self.scenes.conditions)]
        return [f"{class_} {measure}" for measure in MEASURES for class_ in classes]

    def training(self, row: Row, seed: int) -> Training:
        training = self.schedule.model_dump_json(exclude={"stands_for", "seeds", "lists", "scenes", "open"})
        parts: tuple[object, ...] = (REVISION, training, seed, self.weights_hash)
        if (accumulate := self.job.settings.accumulate) > 1:
            parts = (*parts, accumulate)
        images = self.scenes.hash_of(row, self.two_streams)
        key = hashlib.sha256("|".join(map(str, (*parts, images))).encode()).hexdigest()[:16]
        place = (self.out / file_name(row.method) / f"seed{seed}").absolute()
        scenes = self.scenes.of(row, self.two_streams)
        names = self.scenes.names
        return Training(self.schedule, scenes, names, place, seed, key, self.weights, self.device, accumulate)

    def measure(self) -> dict[str, SegmentationResult]:
        """Method -> what was found; trains what is not trained yet."""
        settings = self.job.settings
        results = {row.method: SegmentationResult(reason=row.reason) for row in self.rows}
        jobs = {
            (row.method, seed): self.training(row, seed)
            for seed in range(self.schedule.seeds)  # all rows with one seed first: what is stopped early compares
            for row in self.rows
            if not row.reason
        }
        if settings.existing == "replace":
            for job in jobs.values():
                for name in ("started.json", "done.json"):
                    (job.out / name).unlink(missing_ok=True)
        todo = {place: job for place, job in jobs.items() if not finished(job)}
        # one network after the other on a GPU; side by side on processors, on one thread each
        train = partial(attempted, train_segmenter)
        reasons = settings.engine.map(train, todo.values(), gpu=self.device != "cpu", limited=False)
        for (method, _), reason in zip(
            todo, settings.progress(reasons, len(todo), f"train {self.schedule.network}"), strict=True
        ):
            results[method].reason = results[method].reason or settings.named(reason)
        for (method, seed), job in jobs.items():
            if results[method].reason:
                continue
            result, trained_one = results[method], train_segmenter(job)
            result.trained[seed] = trained_one
            result.seeds[seed], missing = self.score(trained_one.counts, trained_one.counts)
            result.missing |= missing
        self.differences(results)
        return results

    def score(
        self, counts: dict[str, NDArray[np.int64]], stems: Iterable[str]
    ) -> tuple[dict[str, float], dict[str, str]]:
        """IoU and Acc per class, their means, and the means in every condition; and what has no value."""
        stems = list(stems)
        scores: dict[str, float] = {}
        missing: dict[str, str] = {}
        parts = {"mean": stems} | {
            f"mean ({c})": [stem for stem in stems if self.scenes.strata.get(stem) == c] for c in self.scenes.conditions
        }
        for mean, part in parts.items():
            if not part:
                missing |= {f"{mean} {m}": "no test image was taken in this condition" for m in MEASURES}
                continue
            measured = segmentation_scores(np.sum([counts[stem] for stem in part], axis=0), self.scenes.names)
            values = {f"{mean} {m}": measured[f"m{m}"] for m in MEASURES}
            reasons = {f"{mean} {m}": measured["missing"].get(f"m{m}", "") for m in MEASURES}
            if mean == "mean":
                values |= {f"{name} {m}": measured[m][name] for m in MEASURES for name in self.scenes.names}
                reasons |= {
                    f"{n} {m}": measured["missing"].get(f"{m} {n}", "") for m in MEASURES for n in self.scenes.names
                }
                shown = [self.scenes.names[i] for i in self.scenes.shown]
                values |= {f"{SHOWN} {m}": sum(measured[m][n] for n in shown) / max(len(shown), 1) for m in MEASURES}
                reasons |= {f"{SHOWN} {m}": "" if shown else "the test images show no class" for m in MEASURES}
            missing |= {column: reason for column, reason in reasons.items() if reason}
            scores |= {column: value for column, value in values.items() if not reasons[column]}
        return scores, missing

    def differences(self, results: dict[str, SegmentationResult]) -> None:
        """differences.json: mIoU of each method minus that of Visible, with the interval of a paired bootstrap."""
        base = results.get(BASELINE)
        if base is None or base.reason or not base.trained:
            return
        stems = list(self.scenes.split.test)
        intervals: dict[str, object] = {}
        for method, result in results.items():
            if method == BASELINE or result.reason:
                continue
            first, second = (partial(mean_iou_of, stacked(r.trained.values(), stems)) for r in (result, base))
            try:
                intervals[method] = vars(paired_bootstrap(first, second, len(stems)))
            except EvalkitError as error:
                intervals[method] = {"missing": str(error)}
        text = {"of": OF, "minus": BASELINE, "images": len(stems), "network": self.variant.name}
        write_text(self.out / "differences.json", json.dumps(text | {"methods": intervals}, indent=1) + "\n")

    def record(self, row: Row, result: SegmentationResult, recipe: str, other: str, started: str) -> Record:
        """What was measured of one row, per seed, with everything that it depends on.

        Args:
            row: the method, and where its images come from.
            result: its scores per seed, IoU and Acc in [0, 1].
            recipe: its name, as records have it.
            other: why it was not trained or tested as in the paper; empty where it was.
            started: when the run began, as `now` writes it.
        """
        scenes, images = self.scenes, self.scenes.images
        scores, spread, missing = {}, {}, {}
        for column in self.columns:
            if reason := result.reason or result.missing.get(column, ""):
                missing[column] = reason
            else:
                scores[column], spread[column] = mean_and_spread([s[column] for s in result.seeds.values()])
        method = {
            **images.method_fields(row, self.job, scenes.split, result.reason),
            "segmenter": self.schedule.network,
            "pretrained": pretrained_hashes(self.weights),
            "other_training": other,
            "stands_for": self.schedule.stands_for,
            "recipe": recipe,
            "schedule": self.schedule.model_dump(mode="json"),
            "selection": "highest mIoU on the held-out images",
            "per_seed": {str(seed): one for seed, one in result.seeds.items()},
            "selected_iteration": {str(seed): t.iteration for seed, t in result.trained.items()},
            "held_out_mIoU": {str(seed): t.val for seed, t in result.trained.items()},
            "test_mIoU_if_chosen_on_test": {str(seed): t.best_on_test for seed, t in result.trained.items()},
            "channel_statistics": {str(seed): t.statistics for seed, t in result.trained.items()},
            "spread": spread,
        }
        return Record(
            status="incomplete" if missing else "complete",
            protocol={"name": self.job.protocol.name, "hash": self.job.protocol.hash},
            method=method,
            dataset=images.dataset_fields(scenes.split, scenes.how),
            convention="set",
            metrics=[f"{column}[set]" for column in self.columns],
            images=0 if result.reason else len(scenes.split.test),
            scores=scores,
            missing=missing,
            failures=[],
            provenance=made_here(self.device),
            seeds={f"segmenter {seed}": seed for seed in range(self.schedule.seeds)},
            started=started,
            finished=now(),
        )


def stacked(trained: Iterable[TrainedSegmenter], stems: Sequence[str]) -> NDArray[np.int64]:
    """(seeds, images, C, C) pixel counts."""
    return np.stack([np.stack([one.counts[stem] for stem in stems]) for one in trained])


def mean_iou_of(counts: NDArray[np.int64], draw: NDArray[np.intp]) -> float:
    """mIoU of drawn images, over the seeds and the classes that the images show: few do not show all of them."""
    matrices = counts[:, draw].sum(axis=1)
    right, true = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(axis=2)
    union = true + matrices.sum(axis=1) - right
    return float((right / np.maximum(union, 1))[true > 0].mean())
