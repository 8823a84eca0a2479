"""The world of the sample scenes: a pinhole camera over a street, and painters for everything that stands in it.

A painter writes a surface's colour, its warmth, the light it sends out itself and the label of the thing it belongs to,
all in one pass, so that visible image, infrared image and annotations can never disagree. Metres throughout: X to the
right of the camera, Y up from the road, Z ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

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
        """Everything painted from here on belongs to one new thing."""
        self.things.append(Thing(kind, depth, hot))
        self.current = len(self.things) - 1

    def polygon(self, points: ArrayLike, rgb: RGB, warmth: float, light: RGB = NO_LIGHT) -> None:
        """Fill a polygon given in pixels (N, 2)."""
        fixed = [_fixed(points)]
        cv2.fillPoly(self.paint, fixed, (*rgb, warmth), cv2.LINE_AA, 4)
        cv2.fillPoly(self.light, fixed, light, cv2.LINE_AA, 4)
        cv2.fillPoly(self.label, fixed, self.current, cv2.LINE_8, 4)

    def stroke(self, points: ArrayLike, thickness: float, rgb: RGB, warmth: float, light: RGB = NO_LIGHT) -> None:
        """Draw a line through pixels (N, 2); never thinner than one pixel."""
        fixed, width = [_fixed(points)], max(1, round(thickness))
        cv2.polylines(self.paint, fixed, False, (*rgb, warmth), width, cv2.LINE_AA, 4)
        cv2.polylines(self.light, fixed, False, light, width, cv2.LINE_AA, 4)
        cv2.polylines(self.label, fixed, False, self.current, width, cv2.LINE_8, 4)

    def face(self, points: ArrayLike, rgb: RGB, warmth: float, light: RGB = NO_LIGHT) -> None:
        """Fill a polygon given in metres (N, 3)."""
        self.polygon(self.camera.project(points), rgb, warmth, light)

    def cast(self, points: ArrayLike, amount: int) -> None:
        """Darken the ground within a polygon given in metres (N, 3)."""
        cv2.fillPoly(self.shadow, [_fixed(self.camera.project(points))], amount, cv2.LINE_8, 4)


def _fixed(points: ArrayLike) -> NDArray[np.int32]:
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
class Row:
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
    rows: tuple[Row, Row]

    def edge(self, side: int, z: Floats) -> Floats:
        """X of the kerb on a side at the distances z."""
        x = self.left if side < 0 else self.right
        bay_side, start, end = self.bay
        swing = _smooth((z - start) / 3.0) * _smooth((end - z) / 3.0) if bay_side == side else np.zeros_like(z)
        return (x + side * 2.3 * swing).astype(np.float32)


def triple(*values: float) -> Floats:
    """A few numbers, one per colour, as float32."""
    return np.array(values, np.float32)


def _smooth(t: Floats) -> Floats:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _band(distance: Floats, half: float | Floats, pixel: Floats) -> Floats:
    """How much of a pixel (`pixel` metres wide) is covered by a stripe `half` metres to both sides of distance 0."""
    cover = np.clip((half - np.abs(distance)) / pixel + 0.5, 0, 1)
    return cover * np.minimum(1, 2 * half / pixel)


def _blend(image: Floats, cover: Floats, value: ArrayLike) -> None:
    """Paint `value`, one for all or one per plane, over an image of planes (3, H, W) or a single plane (H, W)."""
    if image.ndim == 2:
        image += (np.asarray(value, np.float32) - image) * cover
        return
    for plane, part in zip(image, np.asarray(value, np.float32), strict=True):
        plane += (part - plane) * cover


def _planes(*parts: Floats) -> Floats:
    """Planes (N, H, W): what numpy computes several times faster than interleaved pixels."""
    return np.stack(np.broadcast_arrays(*parts)).astype(np.float32, copy=False)


def clouds(rng: np.random.Generator, height: int, width: int, cells: float, octaves: int) -> Floats:
    """Multi-octave noise of about 0..1 with `cells` blobs along the shorter side: clouds, smoke, stains."""
    total = np.zeros((height, width), np.float32)
    unit = min(height, width)
    for octave in range(octaves):
        n = cells * 2**octave
        grid = rng.random((int(n * height / unit) + 3, int(n * width / unit) + 3), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return total / (2 - 0.5 ** (octaves - 1))


def _tile(rng: np.random.Generator) -> Floats:
    """A 512 x 512 noise that repeats without a seam, mean 0, deviation 1: grit and stains."""
    total = rng.standard_normal((512, 512), np.float32) * 0.6
    for sigma in (3, 14):
        wide = cv2.GaussianBlur(np.pad(rng.standard_normal((512, 512), np.float32), 48, "wrap"), (0, 0), sigma)
        wide = wide[48:-48, 48:-48]
        total += wide / wide.std() * 0.7
    return total / total.std()


# --- ground, sky, houses ---------------------------------------------------------------------------------------------


def paint_sky(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Sky with clouds, cold in the infrared and coldest overhead; and the town at the end of the street."""
    rows = int(np.clip(canvas.camera.horizon + 2, 1, canvas.height))
    t = np.linspace(0, 1, rows, dtype=np.float32)[:, None] ** 1.4
    cloud = _smooth((clouds(rng, rows, canvas.width, 3, 4) - 0.5) * 4)
    sky = (1 - t[..., None]) * np.array(look.sky[0], np.float32) + t[..., None] * np.array(look.sky[1], np.float32)
    glow = sky + cloud[..., None] * (0 if look.dark else 30)
    canvas.light[:rows] = np.clip(glow, 0, 255)
    canvas.paint[:rows, :, 3] = np.clip(look.sky_warmth + 26 * t + 9 * cloud, 0, 255)
    left = -40.0
    while left < 40:  # the far town
        width, height, grey = rng.uniform(2, 4.5), rng.uniform(3, 11), rng.uniform(90, 140)
        corners = [(left, 0), (left, height), (left + width, height), (left + width, 0)]
        points = [(x, y, FAR) for x, y in corners]
        canvas.face(points, (grey, grey, grey + 6), look.wall_warmth - 8)
        cv2.fillPoly(canvas.depth, [_fixed(canvas.camera.project(points))], FAR, cv2.LINE_8, 4)
        left += width * rng.uniform(0.6, 1.0)


def paint_ground(canvas: Canvas, street: Street, look: Look, rng: np.random.Generator) -> None:
    """Asphalt, lane paint, zebra crossing, kerbs (labelled), pavement; sun and tyres leave their heat on the road."""
    camera = canvas.camera
    top = int(np.clip(np.floor(camera.horizon) + 1, 0, canvas.height - 1))
    y = np.arange(top, canvas.height, dtype=np.float32)[:, None] + 0.5
    z = np.minimum(camera.focal * camera.height / np.maximum(y - camera.horizon, 0.3), 400).astype(np.float32)
    x = ((np.arange(canvas.width, dtype=np.float32) - camera.cx) * z / camera.focal).astype(np.float32)
    px, pz = z / camera.focal, z * z / (camera.focal * camera.height)
    tile = _tile(rng)
    grit = tile[(z * 40).astype(np.int32) & 511, (x * 40).astype(np.int32) & 511] * np.clip(9 / z, 0.08, 1)
    patch = tile[(z * 5).astype(np.int32) & 511, (x * 9).astype(np.int32) & 511]

    lane = (street.right - street.left) / 2
    middle = street.left + lane
    tar = 88 + 7 * grit + 4 * patch
    warm = look.road_warmth + 1.5 * patch
    for track in (
        middle - lane / 2 - 0.75,
        middle - lane / 2 + 0.75,
        middle + lane / 2 - 0.75,
        middle + lane / 2 + 0.75,
    ):
        tyre = np.exp(-(((x - track) / 0.3) ** 2))
        tar -= 9 * tyre
        warm += 11 * tyre  # friction
    rgb = _planes(tar, tar, tar + 1)
    worn = np.clip(0.86 + 0.16 * patch, 0.4, 1)
    zebra = np.zeros_like(z)
    if street.crossing:
        zebra = _band(z - street.crossing - 1.6, 1.6, pz)
        stripes = _band((x - middle) % 1.0 - 0.5, 0.25, px) * (np.abs(x - middle) < lane - 0.5) * zebra
        stop = _band(z - street.crossing + 1.0, 0.16, pz) * ((x > middle) & (x < street.right - 0.4))
        _blend(rgb, np.maximum(stripes, stop) * worn, (225, 225, 220))
        warm -= 5 * stripes
    dashes = _band(x - middle, 0.07, px) * _band(z % 7 - 3.5, 1.75, pz) * (1 - zebra)
    edges = (_band(x - street.left - 0.35, 0.06, px) + _band(x - street.right + 0.35, 0.06, px)) * (1 - zebra)
    _blend(rgb, np.clip(dashes + edges, 0, 1) * worn, (228, 228, 222))
    kerbs = np.zeros(x.shape, bool)
    for side in (-1, 1):
        out = side * (x - street.edge(side, z))  # metres beyond the kerb's foot
        paved = np.clip(out / px + 0.5, 0, 1)
        joints = np.maximum(_band(out % 0.6 - 0.3, 0.012, px), _band(z % 0.6 - 0.3, 0.012, pz))
        slab = tile[(z / 0.6).astype(np.int32) & 511, (out / 0.6).astype(np.int32) & 511]
        base = 150 + 9 * slab + 4 * grit - 38 * joints * np.clip(12 / z, 0, 1)
        stone = _planes(base, base - 6, base - 14)
        _blend(stone, _band(out - 1.1, 0.15, px) * 0.8, (196, 164, 60))  # tactile strip
        _blend(rgb, paved, stone)
        _blend(warm, paved, look.road_warmth - 9 + 1.2 * slab)
        gap = 1 - 0.35 * _band(z % 1.0 - 0.5, 0.02, pz)
        _blend(rgb, _band(out - 0.07, 0.07, px), [112 * gap, 110 * gap, 106 * gap])  # the face, in shade
        _blend(rgb, _band(out - 0.22, 0.08, px), [190 * gap, 187 * gap, 178 * gap])
        _blend(warm, _band(out - 0.15, 0.15, px), look.road_warmth - 16)
        kerbs |= (out > 0) & (out < np.maximum(0.3, px)) & (z < 45)
    if look.sun:
        row = street.rows[0 if look.sun > 0 else 1]  # the houses in the sun's way throw the shadow
        height = row.height[np.clip(np.searchsorted(row.start, z[:, 0] - 1.5) - 1, 0, None)][:, None]
        lit = np.clip(look.sun * (x - row.x) - 0.42 * height, 0, 0.3) / 0.3
        warm += 15 * lit
        canvas.shadow[top:] = (1 - lit) * 95
    for plane, values in enumerate((*rgb, warm)):
        canvas.paint[top:, :, plane] = np.clip(values, 0, 255)
    canvas.light[top:] = 0
    canvas.label[top:] = np.where(kerbs, KERB, 0)
    canvas.depth[top:] = z


def build_row(rng: np.random.Generator, x: float) -> Row:
    """Draw the lots for one side of the street."""
    palette = np.array(
        [(150, 84, 66), (128, 70, 58), (196, 186, 166), (168, 162, 152), (184, 150, 118), (120, 122, 128)], np.float32
    )
    trims = np.array(
        [(170, 40, 36), (34, 84, 140), (36, 110, 70), (200, 150, 40), (90, 50, 110), (220, 220, 215)], np.float32
    )
    starts = np.cumsum(np.concatenate([[0.0], rng.uniform(7, 14, 12)])).astype(np.float32)
    count = len(starts)
    choice = rng.permutation(np.arange(count) % len(palette))
    return Row(
        x=x,
        start=starts,
        height=(rng.integers(2, 5, count) * 3.0 + rng.uniform(4.2, 5.2, count)).astype(np.float32),
        colour=palette[choice] * rng.uniform(0.85, 1.1, (count, 1)).astype(np.float32),
        trim=trims[rng.integers(0, len(trims), count)],
        pitch=rng.uniform(1.7, 2.7, count).astype(np.float32),
        brick=(choice < 2).astype(np.float32),
        dice=rng.random((count, 8, 16), np.float32),
    )


def paint_houses(canvas: Canvas, street: Street, look: Look, rng: np.random.Generator) -> None:
    """Both rows of houses: brick or plaster, windows (some lit in the dark), shop fronts with signs."""
    tile = _tile(rng)
    for side, row in zip((-1, 1), street.rows, strict=True):
        _paint_gables(canvas, side, row, look)
        _paint_row(canvas, side, row, look, tile)


def _paint_gables(canvas: Canvas, side: int, row: Row, look: Look) -> None:
    """The end walls, which show where a house is higher than the one before it."""
    canvas.current = 0
    for k in reversed(range(1, len(row.start))):
        z, height = float(row.start[k]), float(row.height[k])
        if z > FAR:
            continue
        points = [(row.x, 0, z), (row.x, height, z), (row.x + side * 60, height, z), (row.x + side * 60, 0, z)]
        red, green, blue = (float(c) * 0.72 for c in row.colour[k])
        canvas.face(points, (red, green, blue), look.wall_warmth - 4)
        cv2.fillPoly(canvas.depth, [_fixed(canvas.camera.project(points))], z, cv2.LINE_8, 4)


def _paint_row(canvas: Canvas, side: int, row: Row, look: Look, tile: Floats) -> None:
    camera = canvas.camera
    end = camera.cx + camera.focal * row.x / FAR
    first, last = (
        (0, int(np.clip(end, 0, canvas.width))) if side < 0 else (int(np.clip(end, 0, canvas.width)), canvas.width)
    )
    if first >= last:
        return
    columns = np.arange(first, last, dtype=np.float32) + 0.5
    z = (camera.focal * row.x / (columns - camera.cx)).astype(np.float32)
    foot = int(np.clip(camera.horizon + camera.focal * camera.height / z.min() + 2, 1, canvas.height))
    y = (camera.height - (np.arange(foot, dtype=np.float32)[:, None] + 0.5 - camera.horizon) * z / camera.focal).astype(
        np.float32
    )
    house = np.clip(np.searchsorted(row.start, z, "right") - 1, 0, len(row.start) - 1)
    height, pitch, brick = row.height[house], row.pitch[house], row.brick[house]
    along = z - row.start[house]
    py, pu = z / camera.focal, z * z / (camera.focal * abs(row.x))

    grain = tile[(y * 30).astype(np.int32) & 511, (z * 30).astype(np.int32) & 511] * np.clip(10 / z, 0.1, 1)
    stain = tile[(y * 5).astype(np.int32) & 511, (z * 6).astype(np.int32) & 511]
    rgb = row.colour[house].T[:, None] * (1 + 0.05 * grain + 0.03 * stain)
    course = np.floor(y / 0.16)
    mortar = np.maximum(
        _band(y % 0.16 - 0.08, 0.016, py), _band((along + 0.16 * (course % 2)) % 0.32 - 0.16, 0.016, pu)
    )
    _blend(rgb, mortar * brick * 0.75, (188, 176, 164))
    warm = look.wall_warmth + (14 if look.sun == -side else 0) + 3 * stain + 4 * np.clip(1 - y / 3, 0, 1)
    warm += 16 * (row.dice[house, 7, 3] - 0.5)  # some houses are better insulated
    light = np.zeros_like(rgb)

    cell = np.floor(along / pitch)
    across = along - (cell + 0.5) * pitch
    storey = np.floor((y - 3.6) / 3.0)
    rise = y - 3.6 - 3.0 * storey - 1.5
    dice = row.dice[house, storey.astype(np.int32) & 7, cell.astype(np.int32) & 15]
    upstairs = (storey >= 0) & (3.6 + 3.0 * (storey + 1) < height)
    frame = _band(across, pitch * 0.30, pu) * _band(rise, 0.88, py) * upstairs
    glass = _band(across, pitch * 0.30 - 0.08, pu) * _band(rise, 0.80, py) * upstairs
    sill = _band(across, pitch * 0.36, pu) * _band(rise + 0.95, 0.08, py) * upstairs
    mullion = np.maximum(_band(across, 0.035, pu), _band(rise - 0.25, 0.03, py))
    curtain = glass * (dice > 0.55) * (np.abs(across) > pitch * (0.10 + 0.12 * (dice % 0.1) * 10))
    _blend(rgb, np.maximum(frame, sill), (206, 202, 194))
    sheen = 0.8 + 0.33 * rise
    _blend(rgb, glass, _planes((38 + 55 * dice) * sheen, (46 + 62 * dice) * sheen, (58 + 72 * dice) * sheen))
    _blend(rgb, curtain * 0.7, (186, 178, 160))
    _blend(rgb, glass * mullion, (206, 202, 194))
    _blend(warm, glass, look.wall_warmth + (5 if look.dark else -16))

    shop = row.dice[house, 7, 0] > 0.25
    front = _band(across, pitch * 0.42, pu) * _band(y - 1.5, 1.05, py) * shop
    door = _band(across, pitch * 0.22, pu) * _band(y - 1.1, 1.1, py) * (cell % 3 == 1) * ~shop
    shelf = np.floor(y / 0.42).astype(np.int32)
    item = np.floor(z / 0.26 + 0.37 * shelf).astype(np.int32)
    goods = (y % 0.42 < 0.12 + 0.05 * (tile[shelf * 53 & 511, item * 37 & 511] + 1.5)) * np.clip(14 / z, 0, 1)
    inside = 52 + 20 * np.clip(y - 0.4, 0, 2)
    paints = [inside + goods * 26 * tile[(shelf * 53 + k) & 511, item * 37 & 511] for k in (60, 150, 240)]
    _blend(rgb, front, _planes(*paints))
    pillar = _band(np.abs(across) - pitch * 0.21, 0.03, pu) * front
    _blend(rgb, pillar, (46, 46, 48))
    _blend(rgb, door, row.trim[house].T[:, None] * 0.5)
    _blend(warm, np.maximum(front, door), look.wall_warmth - 5)
    sign = _band(y - 3.05, 0.32, py) * _band(across, pitch * 0.48, pu) * shop
    _blend(rgb, sign, row.trim[house].T[:, None])
    bars = (
        (np.sin(along * 21) + np.sin(along * 34 + cell) > 0.2)
        * _band(y - 3.05, 0.14, py)
        * _band(across, pitch * 0.3, pu)
    )
    _blend(rgb, bars * shop * np.clip(18 / z, 0, 1), (238, 236, 228))
    cornice = _band(y - height + 0.18, 0.18, py)
    _blend(rgb, cornice, (176, 170, 160))
    rgb *= 0.72 + 0.28 * np.clip(y / 1.2, 0, 1)
    if look.dark:
        lit = glass * ((dice * 7.3) % 1 < 0.36) * (1 - 0.75 * mullion)
        tone = lit * (0.75 + 0.2 * rise) * np.where(curtain > 0, 0.5, 0.9)
        light += _planes((225 + 25 * dice) * tone, (165 + 60 * dice) * tone, (84 + 90 * dice) * tone)
        open_late = front * (row.dice[house, 7, 1] < 0.3) * (1 - 0.8 * pillar)
        light += open_late * (0.25 + 0.22 * y) * triple(0.9, 0.82, 0.62)[:, None, None] * (rgb + 60)
        light += sign * (row.dice[house, 7, 2] < 0.45) * rgb * 0.7
        warm += 10 * lit + 12 * open_late

    wall = (y >= 0) & (y <= height)
    area = (slice(0, foot), slice(first, last))
    for plane, values in enumerate((*rgb, warm)):
        np.copyto(canvas.paint[area][..., plane], np.clip(values, 0, 255), where=wall, casting="unsafe")
    for plane, values in enumerate(light):
        np.copyto(canvas.light[area][..., plane], np.clip(values, 0, 255), where=wall, casting="unsafe")
    canvas.label[area][wall] = 0
    np.copyto(canvas.depth[area], z, where=wall)
    canvas.shadow[area][wall] = 0 if look.sun in (0, -side) else 70


# --- things ----------------------------------------------------------------------------------------------------------


def tree(canvas: Canvas, x: float, z: float, look: Look, rng: np.random.Generator) -> None:
    """A street tree: trunk, and a crown of leaf clumps lit from above."""
    canvas.begin(BACKGROUND, z)
    size, crown = canvas.camera.focal / z, rng.uniform(3.6, 4.6)
    foot = canvas.camera.project([(x, 0, z), (x, crown, z)])
    trunk = 0.13 * size
    bark = [
        _shift(foot[0], -trunk, 0),
        _shift(foot[1], -trunk * 0.6, 0),
        _shift(foot[1], trunk * 0.6, 0),
        _shift(foot[0], trunk, 0),
    ]
    canvas.polygon(bark, (82, 66, 52), look.leaf_warmth + 8)
    radius = rng.uniform(1.3, 1.7)
    hue = rng.uniform(-12, 14)
    angle, reach = rng.uniform(0, 2 * np.pi, 190), np.sqrt(rng.uniform(0, 1, 190))
    clumps = np.stack([reach * np.cos(angle), reach * np.sin(angle)], 1)
    for a, b in clumps[np.argsort(clumps[:, 1])]:  # from the shaded underside to the top
        shade = 0.62 + 0.26 * b + 0.16 * a * -look.sun + rng.uniform(-0.14, 0.18)
        bulge = radius * (1 + 0.12 * np.sin(5 * np.arctan2(b, a) + hue))
        centre = _shift(foot[1], a * bulge * size, -(b * bulge * 0.9 + 0.7) * size)
        leaf = _oval(centre, rng.uniform(0.12, 0.25) * size, rng.uniform(0.1, 0.19) * size, 8)
        leaf = leaf + rng.normal(0, 0.045 * size, leaf.shape)
        canvas.polygon(leaf, ((74 + hue) * shade, 116 * shade, 48 * shade), look.leaf_warmth + 6 * b + 4 * a)
    if look.sun:
        canvas.cast(
            [(x + look.sun * 1.5 + 1.9 * np.cos(t), 0, z + 0.9 * np.sin(t)) for t in np.linspace(0, 6.28, 14)], 90
        )


def _oval(centre: ArrayLike, rx: float, ry: float, corners: int = 14) -> NDArray[np.float64]:
    t = np.arange(corners) * (2 * np.pi / corners)
    return np.asarray(centre) + np.stack([rx * np.cos(t), ry * np.sin(t)], 1)


def _shift(points: ArrayLike, *by: float) -> NDArray[np.float64]:
    return np.asarray(points, np.float64) + np.array(by)


def lamp_post(canvas: Canvas, x: float, z: float, side: int, look: Look) -> None:
    """A street lamp whose arm reaches over the road; its head glows in the dark."""
    canvas.begin(BACKGROUND, z)
    size = canvas.camera.focal / z
    pole = canvas.camera.project([(x, 0, z), (x, 5.7, z), (x - side * 0.25, 6.0, z), (x - side * 1.2, 6.1, z)])
    canvas.stroke(pole, 0.11 * size, (104, 108, 110), look.body_warmth)
    head = [(x - side * 1.1, 6.18, z), (x - side * 1.9, 6.14, z), (x - side * 1.9, 6.0, z), (x - side * 1.1, 6.0, z)]
    canvas.face(
        head, (200, 200, 195), look.body_warmth + (45 if look.dark else 2), (255, 226, 160) if look.dark else NO_LIGHT
    )


def road_sign(canvas: Canvas, x: float, z: float, look: Look, rng: np.random.Generator) -> None:
    """A pole with a round, square or triangular sign: bold in the visible, near nothing in the infrared."""
    canvas.begin(BACKGROUND, z)
    size = canvas.camera.focal / z
    pole = canvas.camera.project([(x, 0, z), (x, 2.6, z)])
    canvas.stroke(pole, 0.06 * size, (150, 152, 152), look.body_warmth)
    centre, shape = _shift(pole[1], 0, 0.1 * size), int(rng.integers(0, 3))
    if shape == 0:
        canvas.polygon(_oval(centre, 0.36 * size, 0.36 * size, 20), (196, 28, 30), look.body_warmth - 3)
        canvas.polygon(_oval(centre, 0.26 * size, 0.26 * size, 20), (240, 240, 236), look.body_warmth - 3)
        canvas.stroke(
            [_shift(centre, -0.15 * size, 0), _shift(centre, 0.15 * size, 0)],
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
        canvas.cast(_shift(ground, look.sun * 0.9, 0, 0), 120)
        canvas.cast(ground, 215)
    under = place([(tail + 0.2, 0.3, -0.8), (tail + 0.2, 0.3, 0.8), (nose - 0.2, 0.3, 0.8), (nose - 0.2, 0.3, -0.8)])
    lower = _shift(under * (1, 0, 1), 0, 0.12, 0)
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


def _tint(colour: RGB, factor: float) -> RGB:
    red, green, blue = (min(255.0, c * factor) for c in colour)
    return red, green, blue


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
        canvas.face(quad, _tint(colour, shade), warm)
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
        canvas.face(place([(s, y, side * w) for s, y, w in outline]), _tint(colour, 0.88 * sunny), base + 16 * heat)
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
        canvas.face(at(post, width), _tint(colour, 0.7 * sunny), base + 8 * heat)
        engine = [(1.0, 0.35), (1.0, belt - 0.06), (outline[7][0], outline[7][1] - 0.05), (outline[8][0] - 0.1, 0.4)]
        canvas.face(at(engine, 0.86), _tint(colour, 0.9 * sunny), base + 46 * heat)
        canvas.face(
            at([(-1.7, 0.27), (-1.7, 0.4), (1.7, 0.4), (1.7, 0.27)], 0.86), _tint(colour, 0.45), base + 26 * heat
        )
        edge = canvas.camera.project(at([(pillar, 0.36), (pillar, belt)], 0.87))
        canvas.stroke(edge, 1, _tint(colour, 0.5), base + 14 * heat)
        t = np.arange(20) * (2 * np.pi / 20)
        for hub in (outline[1][0] + 0.88, outline[-2][0] - 0.85):
            for radius, grey, warm in ((0.37, 12, 30), (0.32, 30, 66), (0.20, 150, 92), (0.07, 70, 104)):  # arch to hub
                ring = at([(hub + radius * np.cos(a), 0.32 + radius * np.sin(a)) for a in t], 0.88)
                canvas.face(ring, (grey, grey, grey + 2), min(250, base + warm * heat))

    return job


@dataclass(frozen=True)
class Clothes:
    """Colours of a person."""

    top: RGB
    legs: RGB
    skin: RGB
    hair: RGB


Joint = tuple[float, float]


@dataclass(frozen=True)
class Pose:
    """Joints of a person in metres, x to the right of and y above its standing point; limbs far to near."""

    legs: tuple[tuple[Joint, Joint, Joint], ...]  # hip, knee, ankle
    arms: tuple[tuple[Joint, Joint, Joint], ...]  # shoulder, elbow, hand
    hip: Joint
    shoulder: Joint
    head: Joint
    breadth: float  # half the width of the shoulders
    toe: float  # where the shoes point, -1..1


def walking(rng: np.random.Generator, sideways: bool) -> Pose:
    """A walking person, 1.75 m, seen from the side or along the street."""
    swing, direction = float(rng.uniform(0.3, 0.5)) * float(rng.choice([-1, 1])), float(rng.choice([-1, 1]))

    def reach(start: Joint, length: float, angle: float) -> Joint:
        return start[0] + length * float(np.sin(angle)), start[1] - length * float(np.cos(angle))

    legs, arms = [], []
    for sign in (-1, 1):
        a = sign * swing * (1 if sideways else 0.12)
        spread = 0.0 if sideways else 0.09 * sign
        hip = (spread, 0.91)
        knee = reach(hip, 0.43, a + (0.12 * direction if sideways else 0))
        lift = 0.0 if sideways or sign < 0 else 0.06
        ankle = reach(knee, 0.43 - lift, a * 0.7 - (0.3 * direction if sideways and a * direction < 0 else 0))
        legs.append((hip, knee, ankle))
        shoulder = (0.0 if sideways else 0.175 * sign, 1.4)
        b = -a * 0.9 if sideways else 0.1 * sign
        elbow = reach(shoulder, 0.29, b)
        arms.append((shoulder, elbow, reach(elbow, 0.27, b + (0.35 * direction if sideways else -0.1 * sign))))
    lean = 0.03 * direction if sideways else 0.0
    return Pose(tuple(legs), tuple(arms), (0, 0.93), (lean, 1.42), (lean * 1.8, 1.62), 0.12 if sideways else 0.17,
                direction if sideways else 0.0)  # fmt: skip


def riding(sideways: bool) -> Pose:
    """A person on a bicycle heading right, or seen along the street."""
    if sideways:
        legs = (((-0.2, 0.92), (0.2, 0.86), (0.06, 0.46)), ((-0.2, 0.92), (0.14, 0.62), (-0.02, 0.2)))
        arms = (((0.14, 1.38), (0.3, 1.16), (0.5, 1.04)), ((0.14, 1.38), (0.27, 1.13), (0.49, 1.03)))
        return Pose(legs, arms, (-0.18, 0.96), (0.12, 1.4), (0.22, 1.6), 0.13, 1.0)
    legs = (((-0.09, 0.92), (-0.15, 0.66), (-0.12, 0.3)), ((0.09, 0.92), (0.15, 0.56), (0.12, 0.16)))
    arms = (((-0.17, 1.38), (-0.24, 1.18), (-0.25, 1.02)), ((0.17, 1.38), (0.24, 1.18), (0.25, 1.02)))
    return Pose(legs, arms, (0, 0.95), (0, 1.4), (0, 1.6), 0.17, 0.0)


def person(
    canvas: Canvas, x: float, z: float, pose: Pose, clothes: Clothes, scale: float, flip: int, look: Look
) -> None:
    """A person: head and hands warmest, then chest, trousers, shoes."""
    canvas.begin(PERSON, z, hot=True)
    size = canvas.camera.focal / z * scale
    foot = canvas.camera.project([(x, 0, z)])[0]
    warm = 206.0 if look.dark else 196.0

    def at(joint: Joint) -> NDArray[np.float64]:
        return _shift(foot, flip * joint[0] * size, -joint[1] * size)

    def limb(a: Joint, b: Joint, ra: float, rb: float, rgb: RGB, heat: float) -> None:
        ends = np.concatenate([_oval(at(a), ra * size, ra * size, 10), _oval(at(b), rb * size, rb * size, 10)])
        canvas.polygon(cv2.convexHull(ends.astype(np.float32))[:, 0], rgb, heat)

    def leg(k: int) -> None:
        hip, knee, ankle = pose.legs[k]
        tone = _tint(clothes.legs, 0.75 + 0.25 * k)
        toe = (ankle[0] + 0.13 * pose.toe, ankle[1] - 0.04)
        limb((ankle[0] - 0.03 * pose.toe, ankle[1] - 0.03), toe, 0.05, 0.04, (34, 30, 28), warm - 66)
        limb(knee, ankle, 0.065, 0.05, tone, warm - 26)
        limb(hip, knee, 0.095, 0.07, tone, warm - 18)

    def arm(k: int) -> None:
        shoulder, elbow, hand = pose.arms[k]
        tone = _tint(clothes.top, 0.72 + 0.2 * k)
        limb(hand, hand, 0.045, 0.045, clothes.skin, warm + 22)
        limb(elbow, hand, 0.05, 0.04, tone, warm - 8)
        limb(shoulder, elbow, 0.062, 0.052, tone, warm - 10)

    leg(0)
    arm(0)
    leg(1)
    dx, top, hip = pose.breadth, pose.shoulder, pose.hip
    trunk = [(hip[0] - dx * 0.78, hip[1] - 0.06), (hip[0] + dx * 0.78, hip[1] - 0.06), (top[0] + dx, top[1]),
             (top[0] + dx * 0.5, top[1] + 0.07), (top[0] - dx * 0.5, top[1] + 0.07), (top[0] - dx, top[1])]  # fmt: skip
    canvas.polygon([at(p) for p in trunk], clothes.top, warm - 8)
    limb((hip[0], hip[1] + 0.08), (top[0], top[1] - 0.08), dx * 0.45, dx * 0.55, _tint(clothes.top, 1.12), warm + 4)
    arm(1)
    limb((top[0], top[1] + 0.03), pose.head, 0.055, 0.05, clothes.skin, warm + 30)
    canvas.polygon(_oval(at(pose.head), 0.09 * size, 0.125 * size), clothes.skin, min(250, warm + 36))
    back = (pose.head[0] - 0.03 * pose.toe, pose.head[1] + 0.045)
    canvas.polygon(_oval(at(back), 0.092 * size, 0.085 * size), clothes.hair, warm + 10)
    if look.sun:
        reach = [
            (x - 0.2, 0, z),
            (x + 0.2, 0, z),
            (x + 0.2 + look.sun * 1.7, 0, z + 0.3),
            (x - 0.1 + look.sun * 1.7, 0, z + 0.3),
        ]
        canvas.cast(reach, 120)
    canvas.cast([(x + 0.34 * np.cos(t), 0, z + 0.2 * np.sin(t)) for t in np.linspace(0, 6.28, 12)], 120)


def bike(canvas: Canvas, x: float, z: float, sideways: bool, flip: int, colour: RGB, look: Look) -> None:
    """A bicycle: wheels, frame, saddle, handlebar. Its mask covers the wheels' discs, as in hand-drawn labels."""
    canvas.begin(BIKE, z)
    size = canvas.camera.focal / z
    foot = canvas.camera.project([(x, 0, z)])[0]
    warm = look.body_warmth + 8
    canvas.cast(
        [(x + (0.9 if sideways else 0.2) * np.cos(t), 0, z + 0.2 * np.sin(t)) for t in np.linspace(0, 6.28, 12)], 110
    )

    def at(*joints: Joint) -> list[NDArray[np.float64]]:
        return [_shift(foot, flip * a * size, -b * size) for a, b in joints]

    def bar(thick: float, rgb: RGB, *joints: Joint, heat: float = 0.0) -> None:
        canvas.stroke(at(*joints), max(2.0, thick * size), rgb, warm + heat)

    if not sideways:
        canvas.polygon(_oval(at((0, 0.34))[0], max(0.05 * size, 1.5), 0.34 * size), (20, 20, 22), warm + 12)
        bar(0.05, colour, (0, 0.4), (0, 0.98))
        bar(0.035, (40, 40, 42), (-0.29, 1.02), (-0.1, 1.0), (0.1, 1.0), (0.29, 1.02))
        bar(0.08, (30, 28, 28), (-0.08, 0.9), (0.08, 0.9))
        spot = _oval(at((0, 0.72))[0], 0.045 * size, 0.045 * size, 8)
        canvas.polygon(spot, (170, 30, 28), warm, (210, 24, 18) if look.dark else NO_LIGHT)
        return
    for hub in ((-0.53, 0.34), (0.53, 0.34)):
        ring = _oval(at(hub)[0], 0.33 * size, 0.33 * size, 26)
        cv2.fillPoly(canvas.label, [_fixed(ring)], canvas.current, cv2.LINE_8, 4)
        for k in range(5):
            dx, dy = 0.32 * np.cos(k * 0.63), 0.32 * np.sin(k * 0.63)
            canvas.stroke(at((hub[0] - dx, hub[1] - dy), (hub[0] + dx, hub[1] + dy)), 1, (120, 122, 124), warm)
        canvas.stroke(np.concatenate([ring, ring[:1]]), max(2.0, 0.05 * size), (22, 22, 24), warm + 14)
    bar(0.045, colour, (-0.53, 0.34), (-0.08, 0.32), (0.34, 0.8), (-0.2, 0.82), (-0.53, 0.34))
    bar(0.045, colour, (-0.08, 0.32), (-0.24, 0.92))
    bar(0.045, colour, (0.53, 0.34), (0.36, 0.86), (0.34, 1.0))
    bar(0.04, (36, 36, 38), (0.3, 1.03), (0.5, 1.02))
    bar(0.07, (26, 24, 24), (-0.36, 0.94), (-0.12, 0.94))
    bar(0.06, (50, 50, 52), (-0.1, 0.3), (0.0, 0.26), heat=10)


def cone(canvas: Canvas, x: float, z: float, look: Look) -> None:
    """A traffic cone, orange with white bands."""
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
        canvas.polygon([_shift(foot, dx, -y * size) for dx, y in corners], rgb, warm)

    for low, high, rgb in ((0.0, 0.2, (236, 92, 26)), (0.2, 0.34, (238, 238, 234)), (0.34, 0.46, (236, 92, 26)),
                           (0.46, 0.57, (238, 238, 234)), (0.57, 0.74, (236, 92, 26))):  # fmt: skip
        band(low, high, -1.0, rgb)
        band(low, high, 0.3, _tint(rgb, 0.8))  # its shaded side


def car_stop(canvas: Canvas, x: float, z: float, look: Look) -> None:
    """A concrete wheel stop with yellow ends."""
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
    """A box aligned with the street; its front and its top show."""
    (x0, x1), (y0, y1), (z0, z1) = xs, ys, zs
    canvas.face([(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)], _tint(rgb, 1.1), warm + 2)
    near = x0 if x0 > 0 else x1
    canvas.face([(near, y0, z0), (near, y1, z0), (near, y1, z1), (near, y0, z1)], _tint(rgb, 0.7), warm)
    canvas.face([(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)], _tint(rgb, 0.82), warm)


def bump(canvas: Canvas, left: float, right: float, z: float, look: Look) -> None:
    """A speed bump across the lane in yellow and black."""
    canvas.begin(BUMP, z)
    count = 10
    for k in range(count):
        a, b = left + (right - left) * k / count, left + (right - left) * (k + 1) / count
        rgb: RGB = (214, 172, 36) if k % 2 else (38, 38, 40)
        warm = look.road_warmth + (4 if k % 2 else 13)
        canvas.face([(a, 0, z), (b, 0, z), (b, 0.08, z + 0.2), (a, 0.08, z + 0.2)], rgb, warm)
        canvas.face(
            [(a, 0.08, z + 0.2), (b, 0.08, z + 0.2), (b, 0, z + 0.5), (a, 0, z + 0.5)], _tint(rgb, 1.15), warm + 2
        )


def rail(canvas: Canvas, x: float, z: float, length: float, look: Look) -> None:
    """One span of a guardrail along the street: two posts and a beam folded like a W."""
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
        canvas.face(quad, _tint((196, 198, 200), tone), warm + 4 * tone)
