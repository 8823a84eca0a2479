"""Sample scenes: generated infrared-visible street pairs with classes, salient objects and boxes, free of any licence.

They let everything be tried without a download: the metrics, the methods, training, detection and segmentation. The two
images truly complete each other: people are bright in the infrared where night, glare or smoke hides them from the
visible camera, and lane paint, bricks, signs and lit windows are in the visible image only. The same index and seed
always give the same scene, whatever the number of scenes written.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.data.images import write_png
from evalkit.data.scenery.canvas import BIKE, CAR, KERB, PERSON, Camera, Canvas, Floats, Look, Street, clouds, triple
from evalkit.data.scenery.cars import STYLES, car
from evalkit.data.scenery.furniture import bump, car_stop, cone, lamp_post, rail, road_sign, tree
from evalkit.data.scenery.people import Clothes, bike, person, riding, walking
from evalkit.data.scenery.street import build_row, paint_ground, paint_houses, paint_sky
from evalkit.errors import EvalkitError
from evalkit.files import write_text

CONDITIONS = ("day", "night", "glare", "smoke")
MIN_SIDE = 64
SCALE = 2  # drawn this much larger, then averaged down
DETECTED = {PERSON: 0, BIKE: 1, CAR: 2}  # MSRS class -> class of its detection labels
PALETTE = np.array(
    [(0, 0, 0), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 192), (128, 128, 0), (64, 64, 128), (192, 128, 128),
     (192, 64, 0)], np.uint8
)  # fmt: skip

Box = tuple[int, float, float, float, float]
Draw = Callable[[], object]


@dataclass(frozen=True)
class Scene:
    """One generated pair with its annotations; all arrays have the same height and width."""

    name: str  # e.g. "000_day"
    condition: str
    infrared: NDArray[np.uint8]  # (H, W)
    visible: NDArray[np.uint8]  # (H, W, 3) RGB
    classes: NDArray[np.uint8]  # (H, W), MSRS ids 0..8
    salient: NDArray[np.uint8]  # (H, W), 0 or 255
    boxes: tuple[Box, ...]  # class, centre x, centre y, width, height; the last four relative to the image


@dataclass(frozen=True)
class Plan:
    """What `_plan` decides about a scene before anything is drawn; metres."""

    look: Look
    street: Street
    lamps: tuple[tuple[float, float, float], ...]
    beams: list[tuple[float, float, float]]  # head lights that shine towards the camera; filled while drawing
    pools: list[tuple[float, float, float]]  # x, z and direction (-1: towards the camera) of what they light


LOOKS = {
    "day": Look(False, 1, ((92, 140, 206), (204, 218, 232)), 104, 96, 84, 22, 112),
    "night": Look(True, 0, ((7, 9, 18), (30, 27, 30)), 92, 82, 68, 12, 76),
    "glare": Look(True, 0, ((16, 17, 30), (58, 46, 44)), 94, 86, 70, 14, 80),
    "sun": Look(False, 0, ((112, 128, 168), (255, 226, 170)), 102, 98, 82, 24, 104),
    "smoke": Look(False, 0, ((150, 158, 168), (206, 208, 210)), 98, 92, 80, 30, 100),
}


def make_scene(index: int, seed: int = 0, width: int = 640, height: int = 480) -> Scene:
    """Generate scene `index`; the condition cycles through CONDITIONS.

    Args:
        index: 0 or more. Any eight scenes in a row contain all eight MSRS classes; each has a person and a car.
        seed: 0 or more; another seed gives other streets.
        width, height: of the images in pixels, 64 or more each.

    Raises:
        EvalkitError: a negative index or seed, or a side of less than 64 pixels.
    """
    if index < 0 or seed < 0:
        raise EvalkitError(f"index {index} and seed {seed} of a sample scene must be 0 or more.")
    if min(width, height) < MIN_SIDE:
        raise EvalkitError(
            f"a sample scene of {width}x{height} pixels is too small; use {MIN_SIDE} or more for each side."
        )
    # the layout has its own generator, so that the same street appears at every size
    layout, grain = np.random.default_rng([seed, index]).spawn(2)
    condition = CONDITIONS[index % len(CONDITIONS)]
    canvas = Canvas(width * SCALE, height * SCALE, _camera(layout, width * SCALE, height * SCALE))
    plan = _draw(canvas, index, condition, layout, grain)

    label = np.ascontiguousarray(canvas.label[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE])
    layers = _Layers(canvas, label)
    smoke = _smoke(layers, layout, grain) if condition == "smoke" else np.zeros(label.shape, np.float32)
    infrared = _infrared(layers, smoke, grain)
    visible = _visible(layers, plan, condition, smoke, grain)
    if layout.random() < 0.5:  # left-hand traffic; else people would always come from the right
        infrared, visible = np.ascontiguousarray(infrared[:, ::-1]), np.ascontiguousarray(visible[:, ::-1])
        label = np.ascontiguousarray(label[:, ::-1])
    kinds = np.array([t.kind for t in canvas.things], np.uint8)
    hot = np.array([255 if t.hot else 0 for t in canvas.things], np.uint8)
    name = f"{index:03d}_{condition}"
    return Scene(name, condition, infrared, visible, kinds[label], hot[label], _boxes(label, canvas))


def _camera(rng: np.random.Generator, width: int, height: int) -> Camera:
    focal = float(rng.uniform(0.8, 0.94)) * min(width, height * 4 / 3)
    return Camera(focal, width * float(rng.uniform(0.45, 0.53)), height * float(rng.uniform(0.40, 0.45)))


# --- what stands where -----------------------------------------------------------------------------------------------


def _draw(canvas: Canvas, index: int, condition: str, rng: np.random.Generator, grain: np.random.Generator) -> Plan:
    """Decide the layout and draw it, far to near."""
    low_sun = condition == "glare" and index // len(CONDITIONS) % 2 == 1
    look = LOOKS["sun" if low_sun else condition]
    left, right = -5.2 + float(rng.uniform(-0.4, 0.3)), 1.9 + float(rng.uniform(-0.2, 0.4))
    railed = index % 3 != 1  # classes recur with periods of 3 and 5, so that they meet every condition
    stops = index % 5 in (1, 2, 4)
    side = 1 if railed or rng.random() < 0.5 else -1
    bay = (side, 8.0, 27.0) if side > 0 else (side, 13.0, 32.0)
    rows = (
        build_row(rng, left - (5.2 if side < 0 else 3.8)),
        build_row(rng, right + (5.2 if side > 0 else 3.8)),
    )
    crossing = float(rng.uniform(10.5, 13.0)) if index % 2 == 0 else 0.0
    street = Street(left, right, bay, crossing, rows)
    lamp_side = -1 if look.dark else int(rng.choice([-1, 1]))
    lamp_x = left - 0.7 if lamp_side < 0 else right + 0.7
    lamp_z = [float(rng.uniform(13, 16)) + 15.0 * k for k in range(4)]
    lamps = tuple((lamp_x - lamp_side * 1.5, 6.0, z) for z in lamp_z)
    plan = Plan(look, street, lamps, [], [])

    jobs: list[tuple[float, Draw]] = [(z, _bind(lamp_post, canvas, lamp_x, z, lamp_side, look)) for z in lamp_z]
    jobs += _furniture(canvas, street, look, railed, rng)
    jobs += _traffic(canvas, plan, index, stops, rng)
    jobs += _people(canvas, street, look, index, condition, rng)
    paint_sky(canvas, look, grain)
    paint_ground(canvas, street, look, grain)
    paint_houses(canvas, street, look, grain)
    for _, job in sorted(jobs, key=lambda item: -item[0]):
        job()
    return plan


_bind = functools.partial


def _furniture(
    canvas: Canvas, street: Street, look: Look, railed: bool, rng: np.random.Generator
) -> list[tuple[float, Draw]]:
    """Trees, signs, guardrails."""
    jobs: list[tuple[float, Draw]] = []
    for side in (-1, 1):
        z = float(rng.uniform(11, 15)) if side < 0 else float(rng.uniform(13, 18))
        while z < 60:
            x = float(street.edge(side, np.array([z], np.float32))[0]) + side * 1.0
            seed = int(rng.integers(0, 2**31))
            jobs.append((z, _bind(tree, canvas, x, z, look, np.random.default_rng(seed))))
            z += float(rng.uniform(7, 12))
        z = float(rng.uniform(9, 20)) + (4 if side < 0 else 0)
        x = float(street.edge(side, np.array([z], np.float32))[0]) + side * 0.6
        jobs.append((z, _bind(road_sign, canvas, x, z, look, np.random.default_rng(int(rng.integers(0, 2**31))))))
    if railed:
        start = float(rng.uniform(8, 10))
        for k in range(8):
            jobs.append((start + 2 * k, _bind(rail, canvas, street.left - 0.45, start + 2 * k, 2.0, look)))
    return jobs


PAINTS = ((176, 32, 34), (226, 228, 230), (40, 44, 50), (44, 76, 140), (150, 154, 160), (196, 150, 40), (60, 96, 76))


def _traffic(canvas: Canvas, plan: Plan, index: int, stops: bool, rng: np.random.Generator) -> list[tuple[float, Draw]]:
    """Cars ahead, oncoming, crossing and parked; cones, a bump, wheel stops."""
    street, look = plan.street, plan.look
    jobs: list[tuple[float, Draw]] = []
    colours = [PAINTS[k] for k in rng.permutation(len(PAINTS))]

    def add_car(x: float, z: float, yaw: float, running: bool = True) -> None:
        style, colour = STYLES[int(rng.integers(0, 3))], colours.pop()

        def draw() -> None:
            lights = car(canvas, x, z, yaw, style, colour, running, look)
            if running and look.dark:
                plan.pools.append((x, z, 1.0 if abs(yaw) < 1 else -1.0))
                if abs(yaw) > 2:
                    plan.beams.extend(lights)

        jobs.append((z, draw))

    behind_crossing = street.crossing + 6.5 if street.crossing else 0.0
    add_car(
        float(rng.uniform(-3.8, -3.2)),
        max(float(rng.uniform(12, 19)), behind_crossing),
        np.pi + float(rng.uniform(-0.06, 0.06)),
    )
    if index % 3 == 1:
        add_car(float(rng.uniform(-1.5, 0.5)), float(rng.uniform(22, 26)), float(rng.choice([-1, 1])) * np.pi / 2)
    else:
        add_car(
            float(rng.uniform(-0.1, 0.3)),
            max(float(rng.uniform(14, 22)), behind_crossing),
            float(rng.uniform(-0.03, 0.03)),
        )
    side, start, end = street.bay
    x = (street.right if side > 0 else street.left) + side * 1.15
    for k in range(2):
        add_car(x, start + 8.5 + 5.6 * k, 0.0 if side > 0 else np.pi, running=False)
    if stops:
        jobs.append((start + 4.6, _bind(car_stop, canvas, x, start + 4.6, look)))
        jobs.append((end - 3.4, _bind(car_stop, canvas, x, end - 3.4, look)))
    middle = (street.left + street.right) / 2
    if index % 3 != 0:
        z, x = float(rng.uniform(6.3, 7.5)), middle - float(rng.uniform(0.6, 1.4))
        for k in range(3):
            jobs.append((z + 1.5 * k, _bind(cone, canvas, x - 0.25 * k, z + 1.5 * k, look)))
    if index % 5 in (0, 2, 3):
        z = float(rng.uniform(6.2, 8.5))
        jobs.append((z + 0.3, _bind(bump, canvas, middle + 0.15, street.right - 0.1, z, look)))
    return jobs


def _people(
    canvas: Canvas, street: Street, look: Look, index: int, condition: str, rng: np.random.Generator
) -> list[tuple[float, Draw]]:
    """Walkers on both pavements and the crossing, riders, parked bicycles."""
    jobs: list[tuple[float, Draw]] = []

    def walker(x: float, z: float, sideways: bool) -> None:
        pose, clothes = walking(rng, sideways), _clothes(rng, look.dark)
        scale, flip = float(rng.uniform(0.9, 1.06)), 1
        jobs.append((z, _bind(person, canvas, x, z, pose, clothes, scale, flip, look)))

    def rider(x: float, z: float, sideways: bool) -> None:
        flip, colour = int(rng.choice([-1, 1])), PAINTS[int(rng.integers(0, len(PAINTS)))]
        clothes = _clothes(rng, look.dark)
        jobs.append((z, _bind(bike, canvas, x, z, sideways, flip, colour, look)))
        jobs.append((z - 0.01, _bind(person, canvas, x, z - 0.01, riding(sideways), clothes, 1.0, flip, look)))

    near = float(rng.uniform(6.4, 8.6))
    walker(
        min(street.right + float(rng.uniform(0.6, 1.8)), 0.44 * near), near, bool(rng.random() < 0.3)
    )  # nobody stands before this one
    for _ in range(int(rng.integers(1, 4))):
        z = float(rng.uniform(11, 26))
        walker(
            float(street.edge(1, np.array([z], np.float32))[0]) + float(rng.uniform(0.5, 2.2)),
            z,
            bool(rng.random() < 0.3),
        )
    for _ in range(int(rng.integers(1, 4))):
        z = float(rng.uniform(14, 28))
        walker(
            float(street.edge(-1, np.array([z], np.float32))[0]) - float(rng.uniform(0.8, 2.4)),
            z,
            bool(rng.random() < 0.3),
        )
    if street.crossing:
        spots = np.linspace(street.left + 1.0, street.right - 1.2, 4) + rng.uniform(-0.4, 0.4, 4)
        for x in rng.permutation(spots)[: int(rng.integers(2, 4))]:
            walker(float(x), street.crossing + float(rng.uniform(0.5, 2.8)), True)
    if index % 3 != 2:
        if street.crossing:
            rider(street.right - float(rng.uniform(0.6, 0.9)), float(rng.uniform(8.6, 9.6)), False)
        else:
            rider(float(rng.uniform(-2.6, -0.8)), float(rng.uniform(9.5, 11.5)), True)
    if index % 2 == 1:
        z = float(rng.uniform(9.5, 11))
        colour = PAINTS[int(rng.integers(0, len(PAINTS)))]
        jobs.append((z, _bind(bike, canvas, street.right + 2.9, z, True, 1, colour, look)))
    return jobs


def _clothes(rng: np.random.Generator, dark: bool) -> Clothes:
    tops = ((172, 40, 44), (46, 92, 160), (222, 222, 218), (230, 176, 60), (60, 120, 84), (96, 70, 120), (70, 74, 82))
    legs = ((38, 46, 70), (30, 30, 34), (96, 86, 70), (70, 74, 80))
    skins, hairs = ((226, 180, 150), (198, 148, 112), (120, 82, 60)), ((30, 24, 22), (78, 54, 36), (150, 118, 70))
    pick = [int(rng.integers(0, len(choice))) for choice in (tops, legs, skins, hairs)]
    top = tuple(c * (0.4 if dark else 1.0) for c in tops[pick[0]])  # winter coats
    return Clothes((top[0], top[1], top[2]), legs[pick[1]], skins[pick[2]], hairs[pick[3]])


# --- what the two cameras see ----------------------------------------------------------------------------------------


class _Layers:
    """A canvas at its final size, with the place in the world of every pixel."""

    def __init__(self, canvas: Canvas, label: NDArray[np.int32]) -> None:
        size = (label.shape[1], label.shape[0])
        paint = cv2.resize(canvas.paint, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        self.colour, self.warmth = paint[..., :3] / 255, np.ascontiguousarray(paint[..., 3])
        self.light = cv2.resize(canvas.light, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        self.label = label
        self.unit = max(size[0] / 640, size[1] / 480)  # of blurs and halos
        depths = np.array([t.depth for t in canvas.things], np.float32)[label]
        self.z = np.where(depths > 0, depths, canvas.depth[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE])
        camera = canvas.camera
        self.camera = Camera(camera.focal / SCALE, camera.cx / SCALE, camera.horizon / SCALE, camera.height)
        rows, columns = np.indices(label.shape, np.float32) + 0.5
        self.rows, self.columns = rows, columns
        self.x = (columns - self.camera.cx) * self.z / self.camera.focal
        self.y = self.camera.height - (rows - self.camera.horizon) * self.z / self.camera.focal
        shadow = cv2.resize(canvas.shadow, size, interpolation=cv2.INTER_AREA)
        shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.5, 1.6 * self.unit)).astype(np.float32) / 255
        self.shadow = np.where(label <= KERB, shadow, 0.12).astype(np.float32)


def _visible(layers: _Layers, plan: Plan, condition: str, smoke: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    if plan.look.dark:
        image = _by_lamps(layers, plan, high_beam=condition == "glare")
        gain = 0.030 if condition == "night" else 0.022
    else:
        image = _by_daylight(layers, plan, low_sun=condition == "glare")
        gain = 0.012
    if smoke.any():
        tone = 0.60 + 0.24 * np.clip(smoke / 4, 0, 1)  # thick smoke catches more of the sky
        through = np.exp(-smoke)
        image = image * through[..., None] + (tone * (1 - through))[..., None] * triple(0.99, 1.0, 1.02)
    image = cv2.GaussianBlur(image, (0, 0), max(0.35, 0.5 * layers.unit))
    image = np.maximum(image, 0)
    image += rng.standard_normal(image.shape, np.float32) * gain * np.sqrt(0.12 + image)
    cube = np.maximum(image, 0) ** 3
    image = image / np.cbrt(1 + 0.6 * cube)  # highlights roll off instead of clipping
    return np.rint(np.clip(image * 272, 0, 255)).astype(np.uint8)


def _by_daylight(layers: _Layers, plan: Plan, low_sun: bool) -> Floats:
    sky = np.array(plan.look.sky[1], np.float32) / 255
    if low_sun:
        ambient, sun = triple(0.40, 0.38, 0.42), triple(0, 0, 0)
    elif plan.look.sun:
        ambient, sun = triple(0.40, 0.46, 0.56), triple(0.78, 0.68, 0.52)
    else:
        ambient, sun = triple(0.74, 0.76, 0.78), triple(0, 0, 0)
    contact = 1 - 0.75 * np.clip(layers.shadow - 0.4, 0, 1)  # under cars not even the sky reaches
    shade = (ambient + sun * (1 - layers.shadow)[..., None] ** 2) * contact[..., None]
    image = layers.colour * shade + layers.light
    haze = (1 - np.exp(-layers.z / 260))[..., None] * (layers.z < 300)[..., None]
    image = image * (1 - haze) + sky * haze
    if low_sun:
        x, y = layers.camera.cx + 18 * layers.unit, layers.camera.horizon - 34 * layers.unit
        far = np.hypot(layers.columns - x, layers.rows - y) / layers.unit
        veil = 1.5 * np.exp(-far / 62) + 0.62 * np.exp(-far / 210) + 4 * np.exp(-((far / 20) ** 2))
        across = (layers.columns - x) / layers.unit
        wet = np.exp(-((across / (22 + 0.16 * np.abs(layers.rows - y) / layers.unit)) ** 2)) * (layers.label == 0)
        image += (wet * (layers.y < 0.05) * 0.5)[..., None] * triple(1.0, 0.86, 0.62)
        image += veil[..., None] * triple(1.0, 0.9, 0.7)
    return image.astype(np.float32)


def _by_lamps(layers: _Layers, plan: Plan, high_beam: bool) -> Floats:
    x, y, z = layers.x, layers.y, layers.z
    shade = np.broadcast_to(triple(0.050, 0.054, 0.074), layers.colour.shape).copy()
    below = 1 / (1 + np.exp(np.clip((y - 5.6) * 4, -30, 30)))
    pool = np.zeros_like(z)
    for lx, ly, lz in plan.lamps:
        pool += below / (1 + ((x - lx) ** 2 + (z - lz) ** 2 + 0.3 * (y - ly) ** 2) / 10) ** 1.7
    shade += (3.4 * pool)[..., None] * triple(1.0, 0.76, 0.44)
    low = np.exp(-np.clip(y, 0, 9) * 2.2)
    for cx, cz, way in plan.pools:
        ahead = way * (z - cz) - 2.2
        beam = low * np.exp(-(((x - cx) / (1.1 + 0.12 * np.abs(ahead))) ** 2) - np.abs(ahead) / 6) * (ahead > 0)
        shade += (1.9 * beam)[..., None] * triple(1.0, 0.95, 0.84)
    own = low * np.exp(-((x / (0.9 + 0.11 * z)) ** 2)) * np.exp(-((z - 6) ** 2) / 40)
    shade += (0.30 * own)[..., None] * triple(1.0, 0.95, 0.86)
    contact = 1 - 0.75 * np.clip(layers.shadow - 0.4, 0, 1)
    image = layers.colour * shade * contact[..., None] + 1.15 * layers.light
    lamps = layers.light * (z < 300)[..., None]
    for sigma, share in ((2.5, 0.35), (11, 0.25)):
        image += share * cv2.GaussianBlur(lamps, (0, 0), sigma * layers.unit)
    for point in plan.lamps:
        image += _halo(layers, point, 0.7, 10) * triple(1.0, 0.8, 0.5)
    power, radius = (2.6, 26) if high_beam else (0.9, 9)
    for point in plan.beams:
        image += _halo(layers, point, power, radius, streak=high_beam) * triple(1.0, 0.97, 0.9)
    if high_beam and plan.beams:
        image += 0.10
    return image.astype(np.float32)


def _halo(
    layers: _Layers, point: tuple[float, float, float], power: float, radius: float, streak: bool = False
) -> Floats:
    """The scattered light around a lamp, (H, W, 1); nothing where something stands before it."""
    px, py = layers.camera.project([point])[0]
    row, column = int(py), int(px)
    height, width = layers.z.shape
    if not (0 <= row < height and 0 <= column < width) or layers.z[row, column] < point[2] - 4:
        return np.zeros((*layers.z.shape, 1), np.float32)
    dx, dy = (layers.columns - float(px)) / layers.unit, (layers.rows - float(py)) / layers.unit
    radius *= min(2.0, 13 / point[2]) ** 0.5
    total = power / (1 + (dx * dx + dy * dy) / radius**2) ** 1.25
    if streak:
        for a, b in ((dx, dy), (dy, dx), (dx + dy, dx - dy)):
            total += 0.5 * np.exp(-np.abs(a) / 60 - np.abs(b) / 2.2)
    return total[..., None].astype(np.float32)


def _smoke(layers: _Layers, layout: np.random.Generator, rng: np.random.Generator) -> Floats:
    """Optical depth of drifting smoke, (H, W): thick at the distance of people, thin towards the camera."""
    height, width = layers.z.shape
    billow = clouds(rng, height, width, 2, 6)
    billow = np.clip((billow - 0.34) * 2.6, 0, 1)
    across = (layers.columns / width - float(layout.uniform(0.5, 0.8))) / 0.55
    up = (layers.rows - layers.camera.horizon - 0.05 * height) / (0.42 * height)
    plume = np.exp(-(across**2) - up**2)
    reach = 1 - np.exp(-np.clip(layers.z - 3.6, 0, 60) / 3)
    return ((1.0 + 3.2 * billow) * plume * 1.25 * reach + 0.25 * reach).astype(np.float32)


def _infrared(layers: _Layers, smoke: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    through = np.exp(-0.07 * smoke - np.minimum(layers.z, 120) / 420)
    image = 1.12 * (layers.warmth * through + 78 * (1 - through)) - 8  # the camera stretches its range
    image = cv2.GaussianBlur(image, (0, 0), max(0.6, 1.15 * layers.unit))
    height, width = image.shape
    image += 3 * (clouds(rng, height, width, 2, 2) - 0.5)  # the sensor's own warmth
    image += rng.standard_normal((1, width), np.float32) * 0.9  # columns differ, as in uncooled sensors
    image += rng.standard_normal(image.shape, np.float32) * 2.0
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def _boxes(label: NDArray[np.int32], canvas: Canvas) -> tuple[Box, ...]:
    """Tight boxes of what is left to see of people, bicycles and cars; slivers get none."""
    height, width = label.shape
    least = max(8, round(1.5e-4 * height * width))
    boxes = []
    for number in np.unique(label).tolist():
        kind = canvas.things[number].kind
        if kind not in DETECTED:
            continue
        rows, columns = np.nonzero(label == number)
        if len(rows) < least:
            continue
        x0, x1, y0, y1 = int(columns.min()), int(columns.max()) + 1, int(rows.min()), int(rows.max()) + 1
        values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
        cx, cy, w, h = (round(v, 6) for v in values)
        boxes.append((DETECTED[kind], cx, cy, w, h))
    return tuple(boxes)


# --- files and figure ------------------------------------------------------------------------------------------------


def box_text(boxes: Sequence[Box]) -> str:
    """YOLO label text: one line `class cx cy w h` per box, six decimals; empty for no boxes."""
    return "".join(f"{k} {cx:.6f} {cy:.6f} {w:.6f} {h:.6f}\n" for k, cx, cy, w, h in boxes)


def write_scenes(
    root: str | os.PathLike[str],
    count: int = 8,
    seed: int = 0,
    width: int = 640,
    height: int = 480,
    progress: Callable[[], object] | None = None,
) -> Path:
    """Write `count` scenes in the layout of MSRS under ROOT/samples and return that folder.

    Folders: ir, vi, Segmentation_labels (MSRS ids), salient (0 or 255) with PNG files, detection_labels with YOLO text.

    Args:
        progress: called once after each scene.

    Raises:
        EvalkitError: a count below 1, or what `make_scene` and the disk refuse.
    """
    if count < 1:
        raise EvalkitError(f"the number of sample scenes must be 1 or more, not {count}.")
    folder = Path(root) / "samples"
    for index in range(count):
        scene = make_scene(index, seed, width, height)
        images = (
            ("ir", scene.infrared),
            ("vi", scene.visible),
            ("Segmentation_labels", scene.classes),
            ("salient", scene.salient),
        )
        for name, image in images:
            write_png(folder / name / f"{scene.name}.png", image)
        write_text(folder / "detection_labels" / f"{scene.name}.txt", box_text(scene.boxes))
        if progress is not None:
            progress()
    return folder


def contact_sheet(scenes: Sequence[Scene]) -> NDArray[np.uint8]:
    """Lay scenes out for the eye, one per row: visible, infrared, classes, salient objects with boxes.

    Returns:
        uint8 (H, W, 3) RGB; every picture 240 pixels wide.

    Raises:
        EvalkitError: no scenes.
    """
    if not scenes:
        raise EvalkitError("a contact sheet needs at least one scene.")
    rows = [_sheet_row(scene) for scene in scenes]
    head = np.full((22, rows[0].shape[1], 3), 255, np.uint8)
    for column, text in enumerate(("visible", "infrared", "classes", "salient, boxes")):
        cv2.putText(head, text, (column * 244 + 4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([head, *rows])


def _sheet_row(scene: Scene) -> NDArray[np.uint8]:
    height, width = scene.infrared.shape
    size = (240, max(1, round(240 * height / width)))
    visible = cv2.resize(scene.visible, size, interpolation=cv2.INTER_AREA)
    infrared = cv2.cvtColor(cv2.resize(scene.infrared, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2RGB)
    classes = cv2.resize(PALETTE[scene.classes], size, interpolation=cv2.INTER_NEAREST)
    salient = cv2.cvtColor(cv2.resize(scene.salient, size, interpolation=cv2.INTER_NEAREST) // 2, cv2.COLOR_GRAY2RGB)
    for kind, cx, cy, w, h in scene.boxes:
        low = (round((cx - w / 2) * size[0]), round((cy - h / 2) * size[1]))
        high = (round((cx + w / 2) * size[0]), round((cy + h / 2) * size[1]))
        cv2.rectangle(salient, low, high, ((255, 90, 80), (90, 220, 255), (255, 220, 70))[kind], 1)
    cv2.putText(visible, scene.name, (5, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(visible, scene.name, (5, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    gap = np.full((size[1], 4, 3), 255, np.uint8)
    row = np.concatenate([visible, gap, infrared, gap, classes, gap, salient], 1)
    return np.concatenate([row, np.full((4, row.shape[1], 3), 255, np.uint8)])
