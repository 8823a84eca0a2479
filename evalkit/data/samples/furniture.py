"""What stands along the street of the sample scenes: trees, lamps, signs, cones, bumps, rails."""

from __future__ import annotations

import numpy as np

from evalkit.data.samples.canvas import (
    BACKGROUND,
    BUMP,
    CAR_STOP,
    CONE,
    GUARDRAIL,
    NO_LIGHT,
    RGB,
    Canvas,
    Look,
    oval,
    shift,
    tint,
)


def tree(canvas: Canvas, x: float, z: float, look: Look, rng: np.random.Generator) -> None:
    """A street tree: trunk, and a crown of leaf clumps lit from above.

    Args:
        canvas: is painted on.
        x, z: where it stands, in metres.
        look: of the scene's condition.
        rng: draws its height, crown and leaves.
    """
    canvas.begin(BACKGROUND, z)
    size, crown = canvas.camera.focal / z, rng.uniform(3.6, 4.6)
    foot = canvas.camera.project([(x, 0, z), (x, crown, z)])
    trunk = 0.13 * size
    bark = [
        shift(foot[0], -trunk, 0),
        shift(foot[1], -trunk * 0.6, 0),
        shift(foot[1], trunk * 0.6, 0),
        shift(foot[0], trunk, 0),
    ]
    canvas.polygon(bark, (82, 66, 52), look.leaf_warmth + 8)
    radius = rng.uniform(1.3, 1.7)
    hue = rng.uniform(-12, 14)
    angle, reach = rng.uniform(0, 2 * np.pi, 190), np.sqrt(rng.uniform(0, 1, 190))
    clumps = np.stack([reach * np.cos(angle), reach * np.sin(angle)], 1)
    for a, b in clumps[np.argsort(clumps[:, 1])]:  # from the shaded underside to the top
        shade = 0.62 + 0.26 * b + 0.16 * a * -look.sun + rng.uniform(-0.14, 0.18)
        bulge = radius * (1 + 0.12 * np.sin(5 * np.arctan2(b, a) + hue))
        centre = shift(foot[1], a * bulge * size, -(b * bulge * 0.9 + 0.7) * size)
        leaf = oval(centre, rng.uniform(0.12, 0.25) * size, rng.uniform(0.1, 0.19) * size, 8)
        leaf = leaf + rng.normal(0, 0.045 * size, leaf.shape)
        canvas.polygon(leaf, ((74 + hue) * shade, 116 * shade, 48 * shade), look.leaf_warmth + 6 * b + 4 * a)
    if look.sun:
        canvas.cast(
            [(x + look.sun * 1.5 + 1.9 * np.cos(t), 0, z + 0.9 * np.sin(t)) for t in np.linspace(0, 6.28, 14)], 90
        )


def lamp_post(canvas: Canvas, x: float, z: float, side: int, look: Look) -> None:
    """A street lamp whose arm reaches over the road; its head glows in the dark.

    Args:
        canvas: is painted on.
        x, z: where it stands, in metres.
        side: of the street on which it stands, -1 left or 1 right.
        look: of the scene's condition.
    """
    canvas.begin(BACKGROUND, z)
    size = canvas.camera.focal / z
    pole = canvas.camera.project([(x, 0, z), (x, 5.7, z), (x - side * 0.25, 6.0, z), (x - side * 1.2, 6.1, z)])
    canvas.stroke(pole, 0.11 * size, (104, 108, 110), look.body_warmth)
    head = [(x - side * 1.1, 6.18, z), (x - side * 1.9, 6.14, z), (x - side * 1.9, 6.0, z), (x - side * 1.1, 6.0, z)]
    canvas.face(
        head, (200, 200, 195), look.body_warmth + (45 if look.dark else 2), (255, 226, 160) if look.dark else NO_LIGHT
    )


def road_sign(canvas: Canvas, x: float, z: float, look: Look, rng: np.random.Generator) -> None:
    """A pole with a round, square or triangular sign: bold in the visible, near nothing in the infrared.

    Args:
        canvas: is painted on.
        x, z: where it stands, in metres.
        look: of the scene's condition.
        rng: draws its shape.
    """
    canvas.begin(BACKGROUND, z)
    size = canvas.camera.focal / z
    pole = canvas.camera.project([(x, 0, z), (x, 2.6, z)])
    canvas.stroke(pole, 0.06 * size, (150, 152, 152), look.body_warmth)
    centre, shape = shift(pole[1], 0, 0.1 * size), int(rng.integers(0, 3))
    if shape == 0:
        canvas.polygon(oval(centre, 0.36 * size, 0.36 * size, 20), (196, 28, 30), look.body_warmth - 3)
        canvas.polygon(oval(centre, 0.26 * size, 0.26 * size, 20), (240, 240, 236), look.body_warmth - 3)
        canvas.stroke(
            [shift(centre, -0.15 * size, 0), shift(centre, 0.15 * size, 0)],
            0.08 * size,
            (30, 30, 30),
            look.body_warmth - 3,
        )
        return
    if shape == 1:
        square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.36 * size
        canvas.polygon(centre + square, (30, 84, 170), look.body_warmth - 3)
        canvas.polygon(
            centre + np.array([(0, -0.8), (0.7, 0.6), (-0.7, 0.6)]) * 0.3 * size, (240, 240, 238), look.body_warmth - 3
        )
        return
    triangle = np.array([(0, -1), (0.95, 0.7), (-0.95, 0.7)]) * size
    canvas.polygon(centre + triangle * 0.42, (200, 30, 30), look.body_warmth - 3)
    canvas.polygon(centre + triangle * 0.27, (244, 242, 230), look.body_warmth - 3)


def cone(canvas: Canvas, x: float, z: float, look: Look) -> None:
    """A traffic cone, orange with white bands.

    Args:
        canvas: is painted on.
        x, z: where it stands, in metres.
        look: of the scene's condition.
    """
    canvas.begin(CONE, z)
    warm = look.body_warmth + 3
    size = canvas.camera.focal / z
    foot = canvas.camera.project([(x, 0, z)])[0]
    canvas.cast([(x + 0.3 * np.cos(t), 0, z + 0.24 * np.sin(t)) for t in np.linspace(0, 6.28, 10)], 110)
    base = [
        (x - 0.24, 0.03, z - 0.24),
        (x + 0.24, 0.03, z - 0.24),
        (x + 0.24, 0.03, z + 0.24),
        (x - 0.24, 0.03, z + 0.24),
    ]
    canvas.face(base, (176, 62, 20), warm)

    def band(low: float, high: float, left: float, rgb: RGB) -> None:
        a, b = (0.17 - 0.19 * low) * size, (0.17 - 0.19 * high) * size
        corners = [(left * a, low), (left * b, high), (b, high), (a, low)]
        canvas.polygon([shift(foot, dx, -y * size) for dx, y in corners], rgb, warm)

    for low, high, rgb in ((0.0, 0.2, (236, 92, 26)), (0.2, 0.34, (238, 238, 234)), (0.34, 0.46, (236, 92, 26)),
                           (0.46, 0.57, (238, 238, 234)), (0.57, 0.74, (236, 92, 26))):  # fmt: skip
        band(low, high, -1.0, rgb)
        band(low, high, 0.3, tint(rgb, 0.8))  # its shaded side


def car_stop(canvas: Canvas, x: float, z: float, look: Look) -> None:
    """A concrete wheel stop with yellow ends.

    Args:
        canvas: is painted on.
        x, z: where it stands, in metres.
        look: of the scene's condition.
    """
    canvas.begin(CAR_STOP, z)
    warm = look.road_warmth - 20
    for left, right, rgb in (
        (-0.75, -0.45, (206, 168, 40)),
        (-0.45, 0.45, (176, 174, 168)),
        (0.45, 0.75, (206, 168, 40)),
    ):
        slab(canvas, (x + left, x + right), (0, 0.17), (z, z + 0.24), rgb, warm)
    canvas.cast([(x - 0.8, 0, z - 0.1), (x + 0.8, 0, z - 0.1), (x + 0.8, 0, z + 0.3), (x - 0.8, 0, z + 0.3)], 110)


def slab(
    canvas: Canvas, xs: tuple[float, float], ys: tuple[float, float], zs: tuple[float, float], rgb: RGB, warm: float
) -> None:
    """A box aligned with the street; its front and its top show.

    Args:
        canvas: is painted on.
        xs, ys, zs: from and to, in metres.
        rgb: 0..255 each.
        warm: 0..255, what the infrared camera sees.
    """
    (x0, x1), (y0, y1), (z0, z1) = xs, ys, zs
    canvas.face([(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)], tint(rgb, 1.1), warm + 2)
    near = x0 if x0 > 0 else x1
    canvas.face([(near, y0, z0), (near, y1, z0), (near, y1, z1), (near, y0, z1)], tint(rgb, 0.7), warm)
    canvas.face([(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)], tint(rgb, 0.82), warm)


def bump(canvas: Canvas, left: float, right: float, z: float, look: Look) -> None:
    """A speed bump across the lane in yellow and black.

    Args:
        canvas: is painted on.
        left, right: x of its ends, in metres.
        z: its distance in metres.
        look: of the scene's condition.
    """
    canvas.begin(BUMP, z)
    count = 10
    for k in range(count):
        a, b = left + (right - left) * k / count, left + (right - left) * (k + 1) / count
        rgb: RGB = (214, 172, 36) if k % 2 else (38, 38, 40)
        warm = look.road_warmth + (4 if k % 2 else 13)
        canvas.face([(a, 0, z), (b, 0, z), (b, 0.08, z + 0.2), (a, 0.08, z + 0.2)], rgb, warm)
        canvas.face(
            [(a, 0.08, z + 0.2), (b, 0.08, z + 0.2), (b, 0, z + 0.5), (a, 0, z + 0.5)], tint(rgb, 1.15), warm + 2
        )


def rail(canvas: Canvas, x: float, z: float, length: float, look: Look) -> None:
    """One span of a guardrail along the street: two posts and a beam folded like a W.

    Args:
        canvas: is painted on.
        x, z: where the span begins, in metres.
        length: of the span, in metres.
        look: of the scene's condition.
    """
    canvas.begin(GUARDRAIL, z)
    warm = look.body_warmth - 6
    for post in (z + length, z):
        slab(canvas, (x - 0.06, x + 0.06), (0, 0.8), (post, post + 0.1), (150, 152, 154), warm)
    for low, high, tone in (
        (0.46, 0.56, 0.8),
        (0.56, 0.62, 1.05),
        (0.62, 0.68, 0.62),
        (0.68, 0.74, 1.05),
        (0.74, 0.82, 0.85),
    ):
        quad = [(x, low, z), (x, high, z), (x, high, z + length), (x, low, z + length)]
        canvas.face(quad, tint((196, 198, 200), tone), warm + 4 * tone)
