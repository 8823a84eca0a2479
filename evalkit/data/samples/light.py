"""What two cameras see of a drawn scene: daylight, lamps and smoke in the visible image, warmth in the infrared one."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.data.samples.canvas import KERB, Camera, Canvas, Floats, blur, clouds, exp, power, triple
from evalkit.data.samples.layout import SCALE, Plan


class Layers:
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


def visible_image(
    layers: Layers, plan: Plan, condition: str, smoke: Floats, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """RGB (H, W, 3): lit by day or by lamps, seen through smoke, with the camera's blur, noise and range.

    Args:
        layers: the drawn scene.
        plan: its lamps and lights.
        condition: one of CONDITIONS.
        smoke: optical depth (H, W), 0 or more.
        rng: draws the camera's noise.
    """
    if plan.look.dark:
        image = _by_lamps(layers, plan, high_beam=condition == "glare")
        gain = 0.030 if condition == "night" else 0.022
    else:
        image = _by_daylight(layers, plan, low_sun=condition == "glare")
        gain = 0.012
    if smoke.any():
        tone = 0.60 + 0.24 * np.clip(smoke / 4, 0, 1)  # thick smoke catches more of the sky
        through = exp(-smoke)
        mist = (tone * (1 - through))[..., None] * triple(0.99, 1.0, 1.02)
        image = (image * through[..., None] + mist).astype(np.float32)
    image = blur(image, max(0.35, 0.5 * layers.unit))
    image = np.maximum(image, 0)
    image += rng.standard_normal(image.shape, np.float32) * gain * np.sqrt(0.12 + image)
    image = np.maximum(image, 0)
    image = image / power(1 + 0.6 * image * image * image, 1 / 3)  # highlights roll off instead of clipping
    return np.rint(np.clip(image * 272, 0, 255)).astype(np.uint8)


def _by_daylight(layers: Layers, plan: Plan, low_sun: bool) -> Floats:
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
    haze = (1 - exp(-layers.z / 260))[..., None] * (layers.z < 300)[..., None]
    image = image * (1 - haze) + sky * haze
    if low_sun:
        x, y = layers.camera.cx + 18 * layers.unit, layers.camera.horizon - 34 * layers.unit
        far = np.hypot(layers.columns - x, layers.rows - y) / layers.unit
        veil = 1.5 * exp(-far / 62) + 0.62 * exp(-far / 210) + 4 * exp(-((far / 20) ** 2))
        across = (layers.columns - x) / layers.unit
        wet = exp(-((across / (22 + 0.16 * np.abs(layers.rows - y) / layers.unit)) ** 2)) * (layers.label == 0)
        image += (wet * (layers.y < 0.05) * 0.5)[..., None] * triple(1.0, 0.86, 0.62)
        image += veil[..., None] * triple(1.0, 0.9, 0.7)
    return image.astype(np.float32)


def _by_lamps(layers: Layers, plan: Plan, high_beam: bool) -> Floats:
    x, y, z = layers.x, layers.y, layers.z
    shade = np.broadcast_to(triple(0.050, 0.054, 0.074), layers.colour.shape).copy()
    below = 1 / (1 + exp(np.clip((y - 5.6) * 4, -30, 30)))
    pool = np.zeros_like(z)
    for lx, ly, lz in plan.lamps:
        pool += below / power(1 + ((x - lx) ** 2 + (z - lz) ** 2 + 0.3 * (y - ly) ** 2) / 10, 1.7)
    shade += (3.4 * pool)[..., None] * triple(1.0, 0.76, 0.44)
    low = exp(-np.clip(y, 0, 9) * 2.2)
    for cx, cz, way in plan.pools:
        ahead = way * (z - cz) - 2.2
        beam = low * exp(-(((x - cx) / (1.1 + 0.12 * np.abs(ahead))) ** 2) - np.abs(ahead) / 6) * (ahead > 0)
        shade += (1.9 * beam)[..., None] * triple(1.0, 0.95, 0.84)
    own = low * exp(-((x / (0.9 + 0.11 * z)) ** 2)) * exp(-((z - 6) ** 2) / 40)
    shade += (0.30 * own)[..., None] * triple(1.0, 0.95, 0.86)
    contact = 1 - 0.75 * np.clip(layers.shadow - 0.4, 0, 1)
    image = layers.colour * shade * contact[..., None] + 1.15 * layers.light
    lamps = layers.light * (z < 300)[..., None]
    for sigma, share in ((2.5, 0.35), (11, 0.25)):
        image += share * blur(lamps, sigma * layers.unit)
    for point in plan.lamps:
        image += _halo(layers, point, 0.7, 10) * triple(1.0, 0.8, 0.5)
    strength, radius = (2.6, 26) if high_beam else (0.9, 9)
    for point in plan.beams:
        image += _halo(layers, point, strength, radius, streak=high_beam) * triple(1.0, 0.97, 0.9)
    if high_beam and plan.beams:
        image += 0.10
    return image.astype(np.float32)


def _halo(
    layers: Layers, point: tuple[float, float, float], strength: float, radius: float, streak: bool = False
) -> Floats:
    """The scattered light around a lamp, (H, W, 1); nothing where something stands before it."""
    px, py = layers.camera.project([point])[0]
    row, column = int(py), int(px)
    height, width = layers.z.shape
    if not (0 <= row < height and 0 <= column < width) or layers.z[row, column] < point[2] - 4:
        return np.zeros((*layers.z.shape, 1), np.float32)
    dx, dy = (layers.columns - float(px)) / layers.unit, (layers.rows - float(py)) / layers.unit
    radius *= min(2.0, 13 / point[2]) ** 0.5
    total = strength / power(1 + (dx * dx + dy * dy) / radius**2, 1.25)
    if streak:
        for a, b in ((dx, dy), (dy, dx), (dx + dy, dx - dy)):
            total += 0.5 * exp(-np.abs(a) / 60 - np.abs(b) / 2.2)
    return total[..., None].astype(np.float32)


def smoke_in_front(layers: Layers, layout: np.random.Generator, rng: np.random.Generator) -> Floats:
    """Optical depth of drifting smoke, (H, W): thick at the distance of people, thin towards the camera.

    Args:
        layers: the drawn scene.
        layout: draws where the smoke drifts.
        rng: draws its billows.
    """
    height, width = layers.z.shape
    billow = clouds(rng, height, width, 2, 6)
    billow = np.clip((billow - 0.34) * 2.6, 0, 1)
    across = (layers.columns / width - float(layout.uniform(0.5, 0.8))) / 0.55
    up = (layers.rows - layers.camera.horizon - 0.05 * height) / (0.42 * height)
    plume = exp(-(across**2) - up**2)
    reach = 1 - exp(-np.clip(layers.z - 3.6, 0, 60) / 3)
    return ((1.0 + 3.2 * billow) * plume * 1.25 * reach + 0.25 * reach).astype(np.float32)


def infrared_image(layers: Layers, smoke: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W): warmth, dimmed by distance and a little by smoke.

    Args:
        layers: the drawn scene.
        smoke: optical depth (H, W), 0 or more.
        rng: draws the camera's noise.
    """
    through = exp(-0.07 * smoke - np.minimum(layers.z, 120) / 420)
    image = 1.12 * (layers.warmth * through + 78 * (1 - through)) - 8  # the camera stretches its range
    image = blur(image, max(0.6, 1.15 * layers.unit))
    height, width = image.shape
    image += 3 * (clouds(rng, height, width, 2, 2) - 0.5)  # the sensor's own warmth
    image += rng.standard_normal((1, width), np.float32) * 0.9  # columns differ, as in uncooled sensors
    image += rng.standard_normal(image.shape, np.float32) * 2.0
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)
