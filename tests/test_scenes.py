"""The sample scenes: the same bytes every time, labels that agree, modalities that complete each other."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from evalkit.data.images import read_image, to_gray
from evalkit.data.samples.samples import CONDITIONS, DETECTED, Scene, box_text, make_scene, write_scenes
from evalkit.errors import EvalkitError

SMALL = {"width": 320, "height": 240}
FOLDERS = ("ir", "vi", "Segmentation_labels", "salient", "detection_labels")
KIND = {box: kind for kind, box in DETECTED.items()}
PERSON, CAR, BIKE = 2, 1, 3


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(index, **SMALL) for index in range(8)]


def pixels_of(scene: Scene, box: tuple[int, float, float, float, float]) -> NDArray[np.bool_]:
    """The part of the class mask inside a box that has the box's class."""
    height, width = scene.classes.shape
    kind, cx, cy, w, h = box
    x0, x1 = round((cx - w / 2) * width), round((cx + w / 2) * width)
    y0, y1 = round((cy - h / 2) * height), round((cy + h / 2) * height)
    return scene.classes[y0:y1, x0:x1] == KIND[kind]


def contrast(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """How much a region differs from the ring around it, on average, in gray levels."""
    wide = cv2.dilate(mask.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    ring = wide & ~near
    return abs(float(image[mask].mean()) - float(image[ring].mean()))


def texture(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.8)  # the sensors' noise is no texture
    return float(np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))[mask].mean())


def test_a_scene_is_what_it_says(scenes: list[Scene]) -> None:
    for index, scene in enumerate(scenes):
        assert scene.condition == CONDITIONS[index % 4]
        assert scene.name == f"{index:03d}_{scene.condition}"
        assert scene.infrared.shape == scene.classes.shape == scene.salient.shape == (240, 320)
        assert scene.visible.shape == (240, 320, 3)
        assert {a.dtype for a in (scene.infrared, scene.visible, scene.classes, scene.salient)} == {np.dtype(np.uint8)}


def test_a_scene_is_the_same_every_time(scenes: list[Scene]) -> None:
    again = make_scene(5, **SMALL)
    for field in ("infrared", "visible", "classes", "salient"):
        assert getattr(again, field).tobytes() == getattr(scenes[5], field).tobytes()
    assert again.boxes == scenes[5].boxes


def test_another_seed_or_index_is_another_scene(scenes: list[Scene]) -> None:
    assert not np.array_equal(make_scene(0, seed=1, **SMALL).classes, scenes[0].classes)
    assert not np.array_equal(scenes[0].classes, scenes[4].classes)


def test_the_files_do_not_depend_on_how_many_are_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    calls: list[int] = []
    one = write_scenes(tmp_path / "a", count=1, width=128, height=96)
    three = write_scenes(tmp_path / "b", count=3, width=128, height=96, progress=lambda: calls.append(1))
    assert one == tmp_path / "a" / "samples"
    assert len(calls) == 3
    for folder in FOLDERS:
        names = sorted(p.name for p in (three / folder).iterdir())
        assert [n.split(".")[0] for n in names] == ["000_day", "001_night", "002_glare"]
        assert (one / folder / names[0]).read_bytes() == (three / folder / names[0]).read_bytes()


def test_the_files_hold_the_scene(tmp_path) -> None:  # type: ignore[no-untyped-def]
    scene = make_scene(0, width=128, height=96)
    folder = write_scenes(tmp_path, count=1, width=128, height=96)
    assert np.array_equal(read_image(folder / "ir" / "000_day.png"), scene.infrared)
    assert np.array_equal(read_image(folder / "vi" / "000_day.png"), scene.visible)
    assert np.array_equal(read_image(folder / "Segmentation_labels" / "000_day.png"), scene.classes)
    assert np.array_equal(read_image(folder / "salient" / "000_day.png"), scene.salient)
    assert (folder / "detection_labels" / "000_day.txt").read_text() == box_text(scene.boxes)


def test_boxes_fit_the_class_mask_tightly(scenes: list[Scene]) -> None:
    for scene in scenes:
        for box in scene.boxes:
            inside = pixels_of(scene, box)
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any(), (scene.name, box)


def test_no_person_stands_outside_every_box(scenes: list[Scene]) -> None:
    for scene in scenes:
        boxed = np.zeros(scene.classes.shape, bool)
        height, width = boxed.shape
        for _, cx, cy, w, h in (b for b in scene.boxes if KIND[b[0]] == PERSON):
            boxed[round((cy - h / 2) * height) : round((cy + h / 2) * height), round((cx - w / 2) * width) :][
                :, : round(w * width)
            ] = True
        people = scene.classes == PERSON
        assert (people & ~boxed).sum() <= 0.05 * people.sum(), scene.name  # slivers have no box


def test_yolo_text(scenes: list[Scene]) -> None:
    for scene in scenes:
        lines = box_text(scene.boxes).splitlines()
        assert len(lines) == len(scene.boxes) >= 2
        for line in lines:
            kind, *numbers = line.split(" ")
            cx, cy, w, h = map(float, numbers)
            assert kind in ("0", "1", "2")
            assert all(len(n.split(".")[1]) == 6 for n in numbers)
            assert w > 0
            assert h > 0
            assert min(cx - w / 2, cy - h / 2) >= -1e-6
            assert max(cx + w / 2, cy + h / 2) <= 1 + 1e-6


def test_salient_pixels_are_people_cars_or_bikes(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert set(np.unique(scene.salient)) == {0, 255}
        assert set(np.unique(scene.classes[scene.salient > 0])) <= {CAR, PERSON, BIKE}
        assert (scene.salient[scene.classes == PERSON] == 255).all()
        others = (scene.salient == 0) & (scene.classes != 0)
        assert scene.infrared[scene.salient > 0].mean() > scene.infrared[others].mean() + 30


def test_every_class_occurs_in_any_eight_scenes() -> None:
    found = []
    for index in range(14):
        scene = make_scene(index, seed=3, width=160, height=120)
        found.append(set(np.unique(scene.classes).tolist()))
        assert {KIND[b[0]] for b in scene.boxes} >= {PERSON, CAR}
    for first in range(len(found) - 7):
        assert set.union(*found[first : first + 8]) == set(range(9))


@pytest.mark.parametrize("condition", ["night", "glare", "smoke"])
def test_infrared_shows_the_people_the_visible_image_hides(scenes: list[Scene], condition: str) -> None:
    chosen = [s for s in scenes if s.condition == condition]
    infrared = [contrast(s.infrared, s.classes == PERSON) for s in chosen]
    visible = [contrast(to_gray(s.visible), s.classes == PERSON) for s in chosen]
    assert min(infrared) > 40
    assert np.mean(infrared) > 2 * np.mean(visible)


def test_visible_shows_the_texture_the_infrared_lacks(scenes: list[Scene]) -> None:
    for scene in (s for s in scenes if s.condition == "day"):
        houses = scene.classes == 0
        houses[:, 100:220] = False  # the sky and the road
        houses[150:] = False
        assert texture(to_gray(scene.visible), houses) > 2 * texture(scene.infrared, houses)


def test_the_infrared_sky_is_cold(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.infrared[:20, 130:180].mean() < 0.75 * scene.infrared[-40:].mean()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (65, 97), (333, 111), (97, 301), (319, 241)])
def test_any_size_will_do(width: int, height: int) -> None:
    for index in (0, 1, 6, 7):
        scene = make_scene(index, width=width, height=height)
        assert scene.visible.shape == (height, width, 3)
        assert scene.infrared.shape == scene.classes.shape == scene.salient.shape == (height, width)
        for box in scene.boxes:
            assert pixels_of(scene, box).any()


def test_bad_requests_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EvalkitError, match="too small"):
        make_scene(0, width=63, height=480)
    with pytest.raises(EvalkitError, match="too small"):
        make_scene(0, width=640, height=0)
    with pytest.raises(EvalkitError, match="0 or more"):
        make_scene(-1)
    with pytest.raises(EvalkitError, match="0 or more"):
        make_scene(0, seed=-1)
    with pytest.raises(EvalkitError, match="1 or more"):
        write_scenes(tmp_path, count=0)
