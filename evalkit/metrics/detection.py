"""Object detection: average precision by COCO's evaluation (Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48).

AP is the mean of the interpolated precision at 101 recalls 0, 0.01, ..., 1, of one class at one IoU; at most the 100
detections of highest score per image and class count. AP50 is at IoU 0.5, AP50:95 the mean over IoU 0.5, 0.55, ...,
0.95, mAP the mean over classes. The validation of YOLO packages interpolates and matches otherwise: its mAP is another
number, not to be ranked with this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.data.labels import parse_boxes
from evalkit.errors import DataError, EvalkitError, nearest
from evalkit.metrics.card import MetricCard

CARDS = (
    MetricCard(
        "AP50", "Average precision at IoU 0.5", "higher", "0 .. 1", "1",
        "Per class, over the whole test set.",
        "Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48", "detection",
    ),
    MetricCard(
        "AP50:95", "Average precision, IoU 0.5 to 0.95", "higher", "0 .. 1", "1",
        "Per class, mean over ten IoU thresholds.",
        "Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48", "detection",
    ),
    MetricCard(
        "mAP50", "Mean average precision at IoU 0.5", "higher", "0 .. 1", "1",
        "Mean of the classes' AP50.",
        "Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48", "detection",
    ),
    MetricCard(
        "mAP50:95", "Mean average precision, IoU 0.5 to 0.95", "higher", "0 .. 1", "1",
        "Mean of the classes' AP50:95.",
        "Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48", "detection",
    ),
)  # fmt: skip


MAX_DETECTIONS = 100  # of an image and class that count
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Boxes:
    """The boxes of one image.

    Attributes:
        corners: (N, 4), x1, y1, x2, y2 in pixels, x1 <= x2 and y1 <= y2, from the image's upper left corner.
        classes: (N,), integers, the class ids.
        scores: (N,), the confidences of predicted boxes; None for the truth.
    """

    corners: NDArray
    classes: NDArray
    scores: NDArray | None = None


def detection_scores(predictions: Mapping[str, Boxes], truths: Mapping[str, Boxes], names: Sequence[str]) -> dict:
    """COCO average precision of a test set, in [0, 1], higher is better.

    Args:
        predictions: image name -> predicted boxes. An image without detections has an empty entry; an image without
            entry is an error, as it was not run.
        truths: image name -> true boxes, of the same images.
        names: the classes' names, by id.

    Returns:
        "AP50", "AP50:95": class name -> value. "mAP50", "mAP50:95": values. "missing": what has no value -> why.
        A class without a true box has no AP: it is NaN, and so is the mean over all classes. The mean over the others,
        which other tools print as mAP, is then under "mAP50 (defined classes)" and "mAP50:95 (defined classes)".

    Raises:
        EvalkitError: faster-coco-eval is not installed, malformed boxes, a class id out of range, images that differ.
    """
    names = list(names)
    if not names or len(set(names)) != len(names):
        raise EvalkitError(f"class names must be given and differ: {', '.join(names) or 'none given'}.")
    if not truths:
        raise EvalkitError("no images to evaluate: truths is empty.")
    for image in truths:
        if image not in predictions:
            near = nearest(image, predictions)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise EvalkitError(
                f"image {image!r} has a truth but no prediction.{hint} Give empty Boxes if none was made."
            )
    for image in predictions:
        if image not in truths:
            raise EvalkitError(f"image {image!r} has predictions but no truth. Give empty Boxes if it shows no object.")

    images = sorted(truths)
    true = [_checked(truths[image], f"truth of {image!r}", len(names)) for image in images]
    predicted = [_checked(predictions[image], f"predictions of {image!r}", len(names), scored=True) for image in images]
    precision = _coco_precision(true, predicted, len(names))

    missing_values: dict[str, str] = {}
    scores: dict = {}
    counts = np.bincount(np.concatenate([boxes.classes for boxes in true]), minlength=len(names))
    missing = [name for name, count in zip(names, counts, strict=True) if not count]
    for measure, part in (("AP50", precision[:1]), ("AP50:95", precision)):
        values = np.where(counts > 0, part.mean(axis=(0, 1)), np.nan)
        scores[measure] = dict(zip(names, values.tolist(), strict=True))
        scores[f"m{measure}"] = float(values.mean())
        if missing:
            missing_values |= {f"{measure} {name}": f"no true box of class {name}" for name in missing}
            missing_values[f"m{measure}"] = f"no {measure} of class {', '.join(missing)}"
            defined = values[counts > 0]
            scores[f"m{measure} (defined classes)"] = float(defined.mean()) if defined.size else float("nan")
    return scores | {"missing": missing_values}


class DrawnAP50:
    """mAP50 of many draws of the same images, as a bootstrap needs it: what `detection_scores` gives, to rounding.

    Boxes are matched once; a draw only counts each image's detections as often as it holds the image.

    Args:
        predictions, truths: as for `detection_scores`, boxes in the same order of images.
        classes: how many there are.
    """

    def __init__(self, predictions: Sequence[Boxes], truths: Sequence[Boxes], classes: int) -> None:
        self.classes = []
        for c in range(classes):
            objects = np.array([np.count_nonzero(np.asarray(boxes.classes) == c) for boxes in truths])
            matched = [_matched(p, t, c) for p, t in zip(predictions, truths, strict=True)]
            scores = np.concatenate([scores for scores, _ in matched])
            image = np.repeat(np.arange(len(matched)), [len(scores) for scores, _ in matched])
            order = np.argsort(-scores, kind="stable")
            self.classes.append((objects, image[order], np.concatenate([right for _, right in matched])[order]))

    def __call__(self, draw: NDArray[np.intp]) -> float:
        """The mean over the classes on the images of these places; NaN where a class has no true box there."""
        values = []
        for objects, image, right in self.classes:
            times = np.bincount(draw, minlength=len(objects))
            count = times @ objects
            if not count:
                return float("nan")
            weight = times[image]
            true, detected = np.cumsum(weight * right), np.cumsum(weight)
            precision = np.maximum.accumulate((true / (detected + np.spacing(1)))[::-1])[::-1]
            places = np.searchsorted(true / count, RECALLS)
            values.append(np.append(precision, 0.0)[np.minimum(places, len(precision))].mean())
        return float(np.mean(values))


def _matched(predicted: Boxes, truth: Boxes, category: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of an image's detections of a class, the highest first, and whether each is the match of a true box.

    Each takes the free true box that it overlaps most, by an IoU of one half or more, as COCO's evaluation has it.
    """
    true = _corners(truth)[np.asarray(truth.classes) == category]
    mine = np.asarray(predicted.classes) == category
    scores = np.asarray(predicted.scores, np.float64)[mine]
    order = np.argsort(-scores, kind="stable")[:MAX_DETECTIONS]
    boxes, right = _corners(predicted)[mine][order], np.zeros(len(order), bool)
    if len(true):
        low, high = np.maximum(boxes[:, None, :2], true[:, :2]), np.minimum(boxes[:, None, 2:], true[:, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=2)
        area = [np.prod(corners[:, 2:] - corners[:, :2], axis=1) for corners in (boxes, true)]
        overlap = common / np.maximum(area[0][:, None] + area[1] - common, np.finfo(float).tiny)
        for i, row in enumerate(overlap):
            best = len(row) - 1 - int(np.argmax(row[::-1]))  # of equals the last one
            if row[best] >= 0.5:
                right[i] = True
                overlap[:, best] = -1
    return scores[order], right


def _corners(boxes: Boxes) -> NDArray[np.float64]:
    return np.asarray(boxes.corners, np.float64).reshape(-1, 4)


def parse_yolo(text: str, width: int, height: int, classes: int, source: str = "YOLO labels") -> Boxes:
    """True boxes from lines of `class cx cy w h`, the centre and size as parts of the image's width and height.

    Args:
        text: one box a line; empty lines are skipped, no lines mean no objects.
        width, height: of the image, in pixels.
        classes: how many classes there are.
        source: what the error messages call the text.

    Returns:
        Boxes in pixels, corners float64 (N, 4), classes int64 (N,), in the order of the lines.

    Raises:
        DataError: as `data.labels.parse_boxes`; the message names the line. EvalkitError: no image size.
    """
    if width < 1 or height < 1:
        raise EvalkitError(f"{source}: an image of {width}x{height} pixels has no boxes.")
    try:
        boxes = parse_boxes(text, range(classes))
    except ValueError as error:
        raise DataError(f"{source}, {error}") from None
    rows = [(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2) for _, cx, cy, w, h in boxes]
    ids = [label for label, *_ in boxes]
    corners = np.array(rows, np.float64).reshape(-1, 4) * (width, height, width, height)
    return Boxes(corners, np.array(ids, np.int64))


def _checked(boxes: Boxes, where: str, classes: int, scored: bool = False) -> Boxes:
    corners, ids = np.asarray(boxes.corners), np.asarray(boxes.classes)
    if not corners.size and not ids.size:
        corners, ids = np.zeros((0, 4)), np.zeros(0, np.int64)
    if corners.ndim != 2 or corners.shape[1] != 4 or ids.shape != corners.shape[:1]:
        raise EvalkitError(f"{where}: corners {corners.shape} and classes {ids.shape}, expected (N, 4) and (N,).")
    if not np.issubdtype(ids.dtype, np.integer):
        raise EvalkitError(f"{where}: class ids are {ids.dtype}, expected integers.")
    if ids.size and (ids.min() < 0 or ids.max() >= classes):
        wrong = int(ids.max() if ids.max() >= classes else ids.min())
        raise EvalkitError(f"{where}: class id {wrong}, but ids run from 0 to {classes - 1}.")
    corners = _numbers(corners, f"{where}: corners")
    if (corners[:, 2:] < corners[:, :2]).any():
        raise EvalkitError(f"{where}: x2 < x1 or y2 < y1. Boxes are x1, y1, x2, y2, not x, y, width, height.")
    if not scored:
        return Boxes(corners, ids)
    if boxes.scores is None or np.shape(boxes.scores) != ids.shape:
        given = "none" if boxes.scores is None else str(np.shape(boxes.scores))
        raise EvalkitError(f"{where}: scores {given}, expected {ids.shape}, one for every box.")
    return Boxes(corners, ids, _numbers(np.asarray(boxes.scores), f"{where}: scores"))


def _numbers(array: NDArray, where: str) -> NDArray[np.float64]:
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise EvalkitError(f"{where} are not all finite numbers.")
    return array.astype(np.float64)


def _coco_precision(truths: list[Boxes], predictions: list[Boxes], classes: int) -> NDArray[np.float64]:
    """Interpolated precision, (10 IoUs, 101 recalls, classes); -1 for a class without truth."""
    # faster-coco-eval, not pycocotools: the same numbers (to the last bit on what we compared), five times faster on a
    # test set of 400 images, silent unless asked, numpy its only dependency, and kept up: ultralytics uses it.
    try:
        # an extra
        from faster_coco_eval import COCO, COCOeval_faster  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise EvalkitError(
            "average precision needs faster-coco-eval, which is not installed. "
            "Install it with: pip install 'evalkit[detection]'"
        ) from None

    # ids from 1: the evaluation stores the id of the matched box, and 0 as "none"
    annotations = _as_coco(truths)
    for number, annotation in enumerate(annotations, start=1):
        annotation |= {"id": number, "area": annotation["bbox"][2] * annotation["bbox"][3], "iscrowd": 0}
    data: dict[str, Any] = {
        "images": [{"id": image} for image in range(1, len(truths) + 1)],
        "categories": [{"id": category, "name": str(category)} for category in range(1, classes + 1)],
        "annotations": annotations,
    }
    truth = COCO(data, print_function=_silent)
    evaluation = COCOeval_faster(truth, truth.loadRes(_as_coco(predictions)), "bbox", print_function=_silent)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, np.inf]], ["all"]
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[..., 0, 0]


def _as_coco(images: list[Boxes]) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for image, boxes in enumerate(images, start=1):
        extents = np.hstack([boxes.corners[:, :2], boxes.corners[:, 2:] - boxes.corners[:, :2]])
        for i, (extent, category) in enumerate(zip(extents.tolist(), boxes.classes.tolist(), strict=True)):
            annotation = {"image_id": image, "category_id": category + 1, "bbox": extent}
            if boxes.scores is not None:
                annotation["score"] = float(boxes.scores[i])
            annotations.append(annotation)
    return annotations


def _silent(*_: object) -> None:
    """The library's chatter goes nowhere."""
