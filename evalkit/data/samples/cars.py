"""The cars of the sample scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from evalkit.data.samples.canvas import CAR, NO_LIGHT, RGB, Camera, Canvas, Look, shift, tint


@dataclass(frozen=True)
class CarStyle:
    """Outline of a car from the tail over the roof to the nose: (along, height, half width) in metres."""

    outline: tuple[tuple[float, float, float], ...]
    glass: tuple[int, ...] = (3, 5)  # the segments that are rear window and windscreen


SEDAN = CarStyle(
    ((-2.16, 0.27, 0.84), (-2.28, 0.60, 0.89), (-2.2, 0.98, 0.84), (-1.72, 1.02, 0.79), (-1.1, 1.43, 0.6),
     (0.2, 1.46, 0.6), (1.02, 0.97, 0.79), (2.08, 0.8, 0.82), (2.26, 0.52, 0.87), (2.18, 0.25, 0.84))
)  # fmt: skip
HATCH = CarStyle(
    ((-1.9, 0.27, 0.82), (-2.0, 0.62, 0.86), (-1.96, 0.95, 0.84), (-1.88, 1.0, 0.8), (-1.5, 1.5, 0.62),
     (0.25, 1.53, 0.62), (1.05, 0.98, 0.79), (1.86, 0.82, 0.8), (2.0, 0.52, 0.84), (1.95, 0.25, 0.82))
)  # fmt: skip
SUV = CarStyle(
    ((-2.15, 0.36, 0.88), (-2.28, 0.72, 0.93), (-2.22, 1.12, 0.91), (-2.14, 1.18, 0.86), (-1.85, 1.7, 0.7),
     (0.2, 1.74, 0.7), (1.0, 1.18, 0.85), (2.1, 1.02, 0.88), (2.26, 0.66, 0.92), (2.2, 0.34, 0.88))
)  # fmt: skip
STYLES = (SEDAN, HATCH, SUV)


def car(
    canvas: Canvas, x: float, z: float, yaw: float, style: CarStyle, colour: RGB, running: bool, look: Look
) -> list[tuple[float, float, float]]:
    """A car, seen from behind at yaw 0 and from the front at yaw pi; returns where its head lights are (metres).

    Running, its engine, wheels, exhaust and underside are warm; parked it is as cold as the sky its metal mirrors.

    Args:
        canvas: is painted on.
        x, z: where its middle stands, in metres.
        yaw: its heading in radians; 0 drives away from the camera.
        style: its outline.
        colour: RGB, 0..255 each.
        running: whether its engine is warm and its lights burn in the dark.
        look: of the scene's condition.
    """
    canvas.begin(CAR, z, hot=running)
    cos, sin = np.cos(yaw), np.sin(yaw)

    def place(points: Sequence[tuple[float, float, float]]) -> NDArray[np.float64]:
        s, y, t = np.array(points, np.float64).T
        return np.stack([x + s * sin + t * cos, y, z + s * cos - t * sin], 1)

    heat = 1.0 if running else 0.0
    base = look.body_warmth
    outline = style.outline
    tail, nose = outline[0][0] - 0.1, outline[-1][0] + 0.1
    ground = place([(tail, 0, -0.95), (tail, 0, 0.95), (nose, 0, 0.95), (nose, 0, -0.95)])
    canvas.cast(ground, 215)
    if look.sun:
        canvas.cast(shift(ground, look.sun * 0.9, 0, 0), 120)
        canvas.cast(ground, 215)
    under = place([(tail + 0.2, 0.3, -0.8), (tail + 0.2, 0.3, 0.8), (nose - 0.2, 0.3, 0.8), (nose - 0.2, 0.3, -0.8)])
    lower = shift(under * (1, 0, 1), 0, 0.12, 0)
    for k in range(4):
        pair = [k, (k + 1) % 4]
        canvas.face(np.concatenate([under[pair], lower[pair[::-1]]]), (16, 16, 17), base + 70 * heat)

    jobs: list[tuple[float, Callable[[], None]]] = []
    for k, (a, b) in enumerate(pairwise(outline)):
        quad = place([(a[0], a[1], -a[2]), (a[0], a[1], a[2]), (b[0], b[1], b[2]), (b[0], b[1], -b[2])])
        if _faces_camera(quad, canvas.camera, place([(0, 0.7, 0)])[0]):
            jobs.append((float(quad[:, 2].mean()), _panel_job(canvas, quad, k, style, colour, base, heat, look)))
    for side in (-1, 1):
        wall = place([(s, y, side * w) for s, y, w in outline])
        if side * (-x * cos + z * sin) > 0.95:  # the camera is on this side of the car
            jobs.append((float(wall[:, 2].mean()), _side_job(canvas, place, side, style, colour, base, heat, look)))
    for _, job in sorted(jobs, key=lambda item: -item[0]):
        job()
    height = outline[-2][1] + 0.14
    lights = place([(outline[-2][0], height, -0.62), (outline[-2][0], height, 0.62)])
    return [(float(px), float(py), float(pz)) for px, py, pz in lights]


def _faces_camera(quad: NDArray[np.float64], camera: Camera, middle: NDArray[np.float64]) -> bool:
    normal = np.cross(quad[1] - quad[0], quad[3] - quad[0])
    centre = quad.mean(0)
    outward = normal if normal @ (centre - middle) > 0 else -normal
    return bool(outward @ (np.array([0, camera.height, 0]) - centre) > 0)


def _within(quad: NDArray[np.float64], left: float, right: float, low: float, high: float) -> NDArray[np.float64]:
    """A rectangle on a quad whose first edge is its bottom: fractions from left and from below."""
    rows = []
    for u, v in ((left, low), (right, low), (right, high), (left, high)):
        rows.append((quad[0] * (1 - u) + quad[1] * u) * (1 - v) + (quad[3] * (1 - u) + quad[2] * u) * v)
    return np.array(rows)


def _panel_job(
    canvas: Canvas,
    quad: NDArray[np.float64],
    k: int,
    style: CarStyle,
    colour: RGB,
    base: float,
    heat: float,
    look: Look,
) -> Callable[[], None]:
    """One of the panels between the sides, numbered from the rear bumper (0) over the roof (4) to the front one (8)."""
    shade = (0.62, 0.8, 1.0, 0.9, 1.15, 0.9, 1.1, 0.85, 0.66)[k]
    warm = base + heat * (35, 22, 12, 0, -4, 0, 82, 78, 50)[k] - (10 if k == 4 else 0)
    burn = look.dark and heat > 0

    def job() -> None:
        canvas.face(quad, tint(colour, shade), warm)
        if k in style.glass:
            canvas.face(_within(quad, 0.05, 0.95, 0.06, 0.9), (30, 38, 46), base - 14 + 8 * heat)
            canvas.face(_within(quad, 0.08, 0.5, 0.55, 0.88), (70, 84, 96), base - 16 + 8 * heat)
        elif k == 1:  # tail: lamps, boot edge
            for left, right in ((0.02, 0.2), (0.8, 0.98)):
                canvas.face(
                    _within(quad, left, right, 0.4, 0.85),
                    (150, 18, 20),
                    warm + 14 * heat,
                    (235, 30, 20) if burn else NO_LIGHT,
                )
            canvas.face(_within(quad, 0.36, 0.64, 0.2, 0.55), (222, 220, 206), warm)
        elif k == 0:
            canvas.face(_within(quad, 0.0, 1.0, 0.0, 0.4), (32, 32, 34), warm)
            canvas.face(_within(quad, 0.12, 0.24, 0.0, 0.35), (60, 60, 60), min(250, warm + 100 * heat))
        elif k == 7:  # nose, upper: lamps and grille (this quad runs downwards)
            canvas.face(_within(quad, 0.24, 0.76, 0.15, 0.85), (24, 25, 27), warm + 24 * heat)
            for left, right in ((0.02, 0.22), (0.78, 0.98)):
                canvas.face(
                    _within(quad, left, right, 0.1, 0.75),
                    (214, 220, 224),
                    warm + 30 * heat,
                    (255, 250, 232) if burn else NO_LIGHT,
                )
        elif k == 8:
            canvas.face(_within(quad, 0.15, 0.85, 0.35, 0.8), (28, 29, 30), warm + 24 * heat)
            canvas.face(_within(quad, 0.38, 0.62, 0.02, 0.32), (222, 220, 206), warm)

    return job


def _side_job(
    canvas: Canvas,
    place: Callable[[Sequence[tuple[float, float, float]]], NDArray[np.float64]],
    side: int,
    style: CarStyle,
    colour: RGB,
    base: float,
    heat: float,
    look: Look,
) -> Callable[[], None]:
    outline = style.outline
    sunny = 1.0 if look.sun == side else 0.85

    def at(points: Sequence[tuple[float, float]], width: float) -> NDArray[np.float64]:
        return place([(s, y, side * width) for s, y in points])

    def job() -> None:
        canvas.face(place([(s, y, side * w) for s, y, w in outline]), tint(colour, 0.88 * sunny), base + 16 * heat)
        belt, roof = outline[3][1], outline[4][1]
        tail, nose, top = outline[3][0] + 0.22, outline[6][0] - 0.22, roof - 0.08
        cabin = [(tail, belt + 0.02), (outline[4][0] + 0.12, top), (outline[5][0] - 0.05, top), (nose, belt + 0.02)]
        width = (outline[3][2] + outline[4][2]) / 2
        canvas.face(at(cabin, width), (30, 37, 44), base - 12 + 8 * heat)
        pillar = (outline[4][0] + outline[5][0]) / 2
        post = [
            (pillar - 0.05, belt),
            (pillar - 0.05, roof - 0.05),
            (pillar + 0.05, roof - 0.05),
            (pillar + 0.05, belt),
        ]
        canvas.face(at(post, width), tint(colour, 0.7 * sunny), base + 8 * heat)
        engine = [(1.0, 0.35), (1.0, belt - 0.06), (outline[7][0], outline[7][1] - 0.05), (outline[8][0] - 0.1, 0.4)]
        canvas.face(at(engine, 0.86), tint(colour, 0.9 * sunny), base + 46 * heat)
        canvas.face(
            at([(-1.7, 0.27), (-1.7, 0.4), (1.7, 0.4), (1.7, 0.27)], 0.86), tint(colour, 0.45), base + 26 * heat
        )
        edge = canvas.camera.project(at([(pillar, 0.36), (pillar, belt)], 0.87))
        canvas.stroke(edge, 1, tint(colour, 0.5), base + 14 * heat)
        t = np.arange(20) * (2 * np.pi / 20)
        for hub in (outline[1][0] + 0.88, outline[-2][0] - 0.85):
            for radius, grey, warm in ((0.37, 12, 30), (0.32, 30, 66), (0.20, 150, 92), (0.07, 70, 104)):  # arch to hub
                ring = at([(hub + radius * np.cos(a), 0.32 + radius * np.sin(a)) for a in t], 0.88)
                canvas.face(ring, (grey, grey, grey + 2), min(250, base + warm * heat))

    return job
