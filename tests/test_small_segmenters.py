"""What the small recipes of evalkit's own segmenters reach on generated scenes (minutes each). Prints what
docs/downstream.md quotes: pytest -m slow -s tests/test_small_segmenters.py -k MFNet
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from evalkit.data.labels import read_mask  # noqa: E402
from evalkit.data.samples.samples import write_scenes  # noqa: E402
from evalkit.downstream.images import conditions  # noqa: E402
from evalkit.downstream.segmentation.networks import SEGMENTERS, segmenter  # noqa: E402
from evalkit.downstream.segmentation.pixels import read_sample  # noqa: E402
from evalkit.downstream.segmentation.recipe import small_schedule  # noqa: E402
from evalkit.downstream.segmentation.train import LabelledImage, Training, train_segmenter  # noqa: E402
from evalkit.downstream.splits import divide  # noqa: E402
from evalkit.methods.checkpoints import read_checkpoint  # noqa: E402
from evalkit.metrics.segmentation import confusion, segmentation_scores  # noqa: E402

NAMES = ("background", "car", "person", "bike", "curve", "car stop", "guardrail", "color cone", "bump")
OWN = [name for name, entry in SEGMENTERS.items() if entry.card.module]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mmseg") is None, reason="needs evalkit[segmentation]"),
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[LabelledImage]]:
    """72 generated pairs, 40 to learn from, 8 held out, 24 of the test."""
    root = write_scenes(tmp_path_factory.mktemp("scenes"), 72, 0, 320, 240)
    stems = tuple(sorted(path.stem for path in (root / "vi").iterdir()))
    parts = divide(stems, "10:2:6", strata=conditions("samples", stems))

    def images(stem: str) -> LabelledImage:
        files = (root / folder / f"{stem}.png" for folder in ("vi", "Segmentation_labels", "ir"))
        return LabelledImage(stem, *files)

    return {part: [images(stem) for stem in getattr(parts, part)] for part in ("train", "val", "test")}


def loss_on(images: list[LabelledImage], name: str, state: dict | None) -> float:
    """The system's loss on images, with weights as they start or as they were trained; BatchNorm sees the batch."""
    from mmengine.runner import set_random_seed

    from evalkit.downstream.segmentation.models import build, model_config

    mean, std = [128.0] * 4, [64.0] * 4
    channels = 4 if segmenter(name).streams == 2 else 3
    set_random_seed(0)
    schedule = small_schedule(name)
    statistics = (mean[:channels], std[:channels], schedule.cut, None, schedule.class_weights, schedule.reduced)
    model = build(model_config(name, 9, *statistics))
    if state is not None:
        model.load_state_dict(state)
    pixels = np.stack([read_sample(image.image, image.infrared) for image in images])
    inputs = torch.from_numpy(pixels).movedim(3, 1).float()
    inputs = torch.nn.functional.interpolate(inputs, schedule.cut, mode="area")
    truth = np.stack([read_mask(image.label) for image in images])[:, None].astype(np.float32)
    truth = torch.nn.functional.interpolate(torch.from_numpy(truth), schedule.cut, mode="nearest")[:, 0].long()
    system = segmenter(name).network()
    if system.prepare is None:
        inputs = (inputs - 128) / 64
    weight = torch.tensor(schedule.class_weights or [1.0] * 9)
    torch.manual_seed(0)
    with torch.no_grad():
        return float(system.loss(system.run(model.network.train(), inputs), truth, weight))


@pytest.mark.parametrize("name", OWN)
def test_the_small_recipe_learns_more_than_that_all_is_background(
    name: str, scenes: dict[str, list[LabelledImage]], tmp_path: Path
) -> None:
    schedule = small_schedule(name)
    if segmenter(name).streams == 1:
        scenes = {part: [replace(image, infrared=None) for image in images] for part, images in scenes.items()}
    start, processor = time.perf_counter(), time.process_time()
    trained = train_segmenter(Training(schedule, scenes, NAMES, tmp_path / "out", 0, "key"))
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    state = read_checkpoint(tmp_path / "out" / "best.safetensors")
    before, after = (loss_on(scenes["val"][:4], name, weights) for weights in (None, state))
    scores = segmentation_scores(sum(trained.counts.values()), NAMES)
    nothing = [confusion(np.zeros_like(mask), mask, 9) for mask in (read_mask(s.label) for s in scenes["test"])]
    background = segmentation_scores(sum(nothing), NAMES)
    miou, floor = 100 * scores["mIoU"], 100 * background["mIoU"]
    print(f"\n{name}: {schedule.length(40)} iterations, {seconds:.0f} s ({processor:.0f} s of processor time)")
    print(f"held-out loss {before:.3f} to {after:.3f}, mIoU {miou:.1f}, of background alone {floor:.1f}")
    assert after < before
    assert scores["mIoU"] > background["mIoU"]
