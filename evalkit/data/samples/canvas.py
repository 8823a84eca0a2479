"""What the sample scenes are drawn with: a pinhole camera, a canvas of surfaces, and how things look in a light.

A painter writes a surface's colour, its warmth, the light it sends out itself and the label of the thing it belongs to,
all in one pass, so that visible image, infrared image and annotations can never disagree. Metres throughout: X to the
right of the camera, Y up from the road, Z ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
RGB = tuple[float, float, float]

BACKGROUND, CAR, PERSON, BIKE, CURVE, CAR_STOP, GUARDRAIL, CONE, BUMP = range(9)
KERB = 1  # the label of the kerbs, which are part of the ground
NO_LIGHT: RGB = (0.0, 0.0, 0.0)
FAR = 90.0  # where the street ends


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera; `focal`, `cx` and `horizon` are in pixels of the canvas."""

    focal: float
    cx: float
    horizon: float
    height: float = 1.55

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Metres (N, 3) to pixels (N, 2); what is behind the lens is pulled in front of it."""
        xyz = np.asarray(points, np.float64)
        z = np.maximum(xyz[:, 2], 0.7)
        return np.stack(
            [self.cx + self.focal * xyz[:, 0] / z, self.horizon + self.focal * (self.height - xyz[:, 1]) / z], 1
        )


@dataclass(frozen=True)
class Thing:
    """One labelled object: its MSRS class, its distance (0: lies on the ground) and whether it stands out thermally."""

    kind: int
    depth: float
    hot: bool = False


@dataclass
class Canvas:
    """The layers all painters write, at twice or more the size of the final images."""

    width: int
    height: int
    camera: Camera
    things: list[Thing] = field(default_factory=lambda: [Thing(BACKGROUND, 0.0), Thing(CURVE, 0.0)])
    current: int = 0

    def __post_init__(self) -> None:
        shape = (self.height, self.width)
        self.paint = np.zeros((*shape, 4), np.uint8)  # RGB colour and warmth
        self.light = np.zeros((*shape, 3), np.uint8)  # emitted
        self.label = np.zeros(shape, np.int32)  # index into things
        self.depth = np.full(shape, 500.0, np.float32)  # of ground, walls and sky; things bring their own
        self.shadow = np.zeros(shape, np.uint8)  # on the ground

    def begin(self, kind: int, depth: float, hot: bool = False) -> None:
        """Everything painted from here on belongs to one new thing.

        Args:
            kind: its MSRS class, 0..8.
            depth: its distance in metres; 0 lies on the ground.
            hot: whether it stands out in the infrared image.
        """
        self.things.append(Thing(kind, depth, hot))
        self.current = len(self.things) - 1

    def polygon(self, points: ArrayLike, rgb: RGB, warmth: float, light: RGB = NO_LIGHT) -> None:
        """Fill a polygon given in pixels (N, 2).

        Args:
            points: corners (N, 2) in pixels.
            rgb: 0..255 each.
            warmth: 0..255, what the infrared camera sees.
            light: RGB that the surface sends out itself, 0..255 each.
        """
        fixed = [to_fixed_point(points)]
        cv2.fillPoly(self.paint, fixed, (*rgb, warmth), cv2.LINE_AA, 4)
        cv2.fillPoly(self.light, fixed, light, cv2.LINE_AA, 4)
        self.mark(self.label, points, self.current)

    def stroke(self, points: ArrayLike, thickness: float, rgb: RGB, warmth: float, light: RGB = NO_LIGHT) -> None:
        """Draw a line through pixels (N, 2); never thinner than one pixel.

        Args:
            points: corners (N, 2) in pixels.
            thickness: in pixels.
            rgb, warmth, light: as for `polygon`.
        """
        fixed, width = [to_fixed_point(points)], max(1, round(thickness))
        cv2.polylines(self.paint, fixed, False, (*rgb, warmth), width, cv2.LINE_AA, 4)
        cv2.polylines(self.light, fixed, False, light, width, cv2.LINE_AA, 4)
        self.mark(self.label, points, self.current, width)

    def face(self, points: ArrayLike, rgb: RGB, warmth: float, light: RGB = NO_LIGHT) -> None:
        """Fill a polygon given in metres (N, 3).

        Args:
            points: corners (N, 3) in metres.
            rgb, warmth, light: as for `polygon`.
        """
        self.polygon(self.camera.project(points), rgb, warmth, light)

    def cast(self, points: ArrayLike, amount: int) -> None:
        """Darken the ground within a polygon given in metres (N, 3)."""
        self.mark(self.shadow, self.camera.project(points), amount)

    def mark(self, layer: NDArray, points: ArrayLike, value: float, thickness: int = 0) -> None:
        """Set a layer where a polygon, or a line through its corners, covers half of a pixel or more.

        OpenCV's own filling without smooth edges takes other pixels from version to version.

        Args:
            layer: (H, W) of the canvas's size; is changed.
            points: corners (N, 2) in pixels.
            value: what the layer becomes there.
            thickness: of the line in pixels; 0 fills the polygon.
        """
        corners = to_fixed_point(points)
        margin = thickness + 1
        left, top = np.clip(corners.min(0) // 16 - margin, 0, (self.width, self.height)).tolist()
        right, bottom = np.clip(corners.max(0) // 16 + margin + 1, 0, (self.width, self.height)).tolist()
        if left >= right or top >= bottom:
            return
        cover = np.zeros((bottom - top, right - left), np.uint8)
        inside = [corners - np.array([16 * left, 16 * top], np.int32)]
        if thickness:
            cv2.polylines(cover, inside, False, 255, thickness, cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(cover, inside, 255, cv2.LINE_AA, 4)
        layer[top:bottom, left:right][cover >= 128] = value


def to_fixed_point(points: ArrayLike) -> NDArray[np.int32]:
    """Pixels to the fixed-point numbers (4 fractional bits) OpenCV draws with, kept inside its range."""
    return np.rint(np.clip(np.asarray(points, np.float64), -4000, 24000) * 16).astype(np.int32)


@dataclass(frozen=True)
class Look:
    """What a condition changes: warmth (0..255) in the infrared, whether lights burn, where the sun is."""

    dark: bool  # lamps, windows and head lights burn
    sun: int  # the sunlit side, -1 left, 1 right, 0 none
    sky: tuple[RGB, RGB]  # zenith, horizon
    road_warmth: float
    wall_warmth: float
    leaf_warmth: float
    sky_warmth: float
    body_warmth: float  # parked cars, poles, signs


@dataclass(frozen=True)
class HouseRow:
    """The houses of one side of the street, near to far; every array has one entry per house."""

    x: float
    start: Floats
    height: Floats
    colour: Floats  # (N, 3)
    trim: Floats  # (N, 3)
    pitch: Floats  # of the windows
    brick: Floats  # 0 or 1
    dice: Floats  # (N, 8, 16), one throw per window


@dataclass(frozen=True)
class Street:
    """The layout of the ground."""

    left: float
    right: float
    bay: tuple[int, float, float]  # side, from, to: where the kerb swings out for parking
    crossing: float  # distance of the zebra crossing, 0 for none
    rows: tuple[HouseRow, HouseRow]

    def edge(self, side: int, z: Floats) -> Floats:
        """X of the kerb on a side at the distances z."""
        x = self.left if side < 0 else self.right
        bay_side, start, end = self.bay
        swing = smooth((z - start) / 3.0) * smooth((end - z) / 3.0) if bay_side == side else np.zeros_like(z)
        return (x + side * 2.3 * swing).astype(np.float32)


# Exponentials, powers and blurs in float32 differ from one processor, and one version of NumPy and OpenCV, to the next
# in their last digits, and then a pixel here and there by a level. In float64 they do, too, but rounding to float32
# takes all of that away, but for one in a hundred million values.


def exp(x: NDArray[np.floating]) -> Floats:
    """e^x, the same on every processor."""
    return np.exp(x, dtype=np.float64).astype(np.float32)


def power(x: NDArray[np.floating], exponent: float) -> Floats:
    """x^exponent, the same on every processor."""
    return np.power(x, exponent, dtype=np.float64).astype(np.float32)


def blur(image: NDArray[np.floating], sigma: float) -> Floats:
    """Gaussian mean, the same on every processor.

    Args:
        image: (H, W) or (H, W, 3).
        sigma: in pixels.
    """
    return cv2.GaussianBlur(image.astype(np.float64), (0, 0), sigma).astype(np.float32)


def triple(*values: float) -> Floats:
    """A few numbers, one per colour, as float32."""
    return np.array(values, np.float32)


def smooth(t: Floats) -> Floats:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def band(distance: Floats, half: float | Floats, pixel: Floats) -> Floats:
    """How much of a pixel (`pixel` metres wide) is covered by a stripe `half` metres to both sides of distance 0.

    Args:
        distance: of each pixel from the middle of the stripe, in metres.
        half: half the width of the stripe, in metres.
        pixel: the width of a pixel there, in metres.
    """
    cover = np.clip((half - np.abs(distance)) / pixel + 0.5, 0, 1)
    return cover * np.minimum(1, 2 * half / pixel)


def blend(image: Floats, cover: Floats, value: ArrayLike) -> None:
    """Paint `value`, one for all or one per plane, over an image of planes (3, H, W) or a single plane (H, W).

    Args:
        image: float32, planes (3, H, W) or one plane (H, W); is changed.
        cover: how much of each pixel is painted, (H, W), 0..1.
        value: one for all planes, or one per plane; numbers or arrays (H, W).
    """
    if image.ndim == 2:
        image += (np.asarray(value, np.float32) - image) * cover
        return
    for plane, part in zip(image, np.asarray(value, np.float32), strict=True):
        plane += (part - plane) * cover


def planes(*parts: Floats) -> Floats:
    """Planes (N, H, W): what numpy computes several times faster than interleaved pixels."""
    return np.stack(np.broadcast_arrays(*parts)).astype(np.float32, copy=False)


def clouds(rng: np.random.Generator, height: int, width: int, cells: float, octaves: int) -> Floats:
    """Multi-octave noise of about 0..1 with `cells` blobs along the shorter side: clouds, smoke, stains.

    Args:
        rng: draws the noise.
        height, width: of the result, in pixels.
        cells: blobs of the coarsest octave along the shorter side.
        octaves: how many, each with half the size and weight of the one before.
    """
    total = np.zeros((height, width), np.float32)
    unit = min(height, width)
    for octave in range(octaves):
        n = cells * 2**octave
        grid = rng.random((int(n * height / unit) + 3, int(n * width / unit) + 3), np.float32)
        fine = cv2.resize(grid.astype(np.float64), (width, height), interpolation=cv2.INTER_CUBIC)
        total += fine.astype(np.float32) * 0.5**octave
    return total / (2 - 0.5 ** (octaves - 1))


def tile_of_noise(rng: np.random.Generator) -> Floats:
    """A 512 x 512 noise that repeats without a seam, mean 0, deviation 1: grit and stains."""
    total = rng.standard_normal((512, 512), np.float32) * 0.6
    for sigma in (3, 14):
        wide = blur(np.pad(rng.standard_normal((512, 512), np.float32), 48, "wrap"), sigma)
        wide = wide[48:-48, 48:-48]
        total += wide / wide.std(dtype=np.float64).astype(np.float32) * 0.7
    return total / total.std(dtype=np.float64).astype(np.float32)


def tint(colour: RGB, factor: float) -> RGB:
    red, green, blue = (min(255.0, c * factor) for c in colour)
    return red, green, blue


def shift(points: ArrayLike, *by: float) -> NDArray[np.float64]:
    return np.asarray(points, np.float64) + np.array(by)


def oval(centre: ArrayLike, rx: float, ry: float, corners: int = 14) -> NDArray[np.float64]:
    """The corners (N, 2) of an ellipse.

    Args:
        centre: (2,), in pixels.
        rx, ry: its half axes, in pixels.
        corners: how many.
    """
    t = np.arange(corners) * (2 * np.pi / corners)
    return np.asarray(centre) + np.stack([rx * np.cos(t), ry * np.sin(t)], 1)
