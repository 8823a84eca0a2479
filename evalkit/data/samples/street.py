"""The street of the sample scenes: sky, ground and houses."""

from __future__ import annotations

import numpy as np

from evalkit.data.samples.canvas import (
    FAR,
    KERB,
    Canvas,
    Floats,
    HouseRow,
    Look,
    Street,
    band,
    blend,
    clouds,
    exp,
    planes,
    power,
    smooth,
    tile_of_noise,
    triple,
)


def paint_sky(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Sky with clouds, cold in the infrared and coldest overhead; and the town at the end of the street.

    Args:
        canvas: is painted on.
        look: of the scene's condition.
        rng: draws clouds and the far town.
    """
    rows = int(np.clip(canvas.camera.horizon + 2, 1, canvas.height))
    t = power(np.linspace(0, 1, rows, dtype=np.float32)[:, None], 1.4)
    cloud = smooth((clouds(rng, rows, canvas.width, 3, 4) - 0.5) * 4)
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
        canvas.mark(canvas.depth, canvas.camera.project(points), FAR)
        left += width * rng.uniform(0.6, 1.0)


def paint_ground(canvas: Canvas, street: Street, look: Look, rng: np.random.Generator) -> None:
    """Asphalt, lane paint, zebra crossing, kerbs (labelled), pavement; sun and tyres leave their heat on the road.

    Args:
        canvas: is painted on.
        street: where its kerbs and its crossing are.
        look: of the scene's condition.
        rng: draws grit and stains.
    """
    camera = canvas.camera
    top = int(np.clip(np.floor(camera.horizon) + 1, 0, canvas.height - 1))
    y = np.arange(top, canvas.height, dtype=np.float32)[:, None] + 0.5
    z = np.minimum(camera.focal * camera.height / np.maximum(y - camera.horizon, 0.3), 400).astype(np.float32)
    x = ((np.arange(canvas.width, dtype=np.float32) - camera.cx) * z / camera.focal).astype(np.float32)
    px, pz = z / camera.focal, z * z / (camera.focal * camera.height)
    tile = tile_of_noise(rng)
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
        tyre = exp(-(((x - track) / 0.3) ** 2))
        tar -= 9 * tyre
        warm += 11 * tyre  # friction
    rgb = planes(tar, tar, tar + 1)
    worn = np.clip(0.86 + 0.16 * patch, 0.4, 1)
    zebra = np.zeros_like(z)
    if street.crossing:
        zebra = band(z - street.crossing - 1.6, 1.6, pz)
        stripes = band((x - middle) % 1.0 - 0.5, 0.25, px) * (np.abs(x - middle) < lane - 0.5) * zebra
        stop = band(z - street.crossing + 1.0, 0.16, pz) * ((x > middle) & (x < street.right - 0.4))
        blend(rgb, np.maximum(stripes, stop) * worn, (225, 225, 220))
        warm -= 5 * stripes
    dashes = band(x - middle, 0.07, px) * band(z % 7 - 3.5, 1.75, pz) * (1 - zebra)
    edges = (band(x - street.left - 0.35, 0.06, px) + band(x - street.right + 0.35, 0.06, px)) * (1 - zebra)
    blend(rgb, np.clip(dashes + edges, 0, 1) * worn, (228, 228, 222))
    kerbs = np.zeros(x.shape, bool)
    for side in (-1, 1):
        out = side * (x - street.edge(side, z))  # metres beyond the kerb's foot
        paved = np.clip(out / px + 0.5, 0, 1)
        joints = np.maximum(band(out % 0.6 - 0.3, 0.012, px), band(z % 0.6 - 0.3, 0.012, pz))
        slab = tile[(z / 0.6).astype(np.int32) & 511, (out / 0.6).astype(np.int32) & 511]
        base = 150 + 9 * slab + 4 * grit - 38 * joints * np.clip(12 / z, 0, 1)
        stone = planes(base, base - 6, base - 14)
        blend(stone, band(out - 1.1, 0.15, px) * 0.8, (196, 164, 60))  # tactile strip
        blend(rgb, paved, stone)
        blend(warm, paved, look.road_warmth - 9 + 1.2 * slab)
        gap = 1 - 0.35 * band(z % 1.0 - 0.5, 0.02, pz)
        blend(rgb, band(out - 0.07, 0.07, px), [112 * gap, 110 * gap, 106 * gap])  # the face, in shade
        blend(rgb, band(out - 0.22, 0.08, px), [190 * gap, 187 * gap, 178 * gap])
        blend(warm, band(out - 0.15, 0.15, px), look.road_warmth - 16)
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


def build_row(rng: np.random.Generator, x: float) -> HouseRow:
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
    return HouseRow(
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
    """Both rows of houses: brick or plaster, windows (some lit in the dark), shop fronts with signs.

    Args:
        canvas: is painted on.
        street: its two rows of houses.
        look: of the scene's condition.
        rng: draws stains.
    """
    tile = tile_of_noise(rng)
    for side, row in zip((-1, 1), street.rows, strict=True):
        _paint_gables(canvas, side, row, look)
        _paint_row(canvas, side, row, look, tile)


def _paint_gables(canvas: Canvas, side: int, row: HouseRow, look: Look) -> None:
    """The end walls, which show where a house is higher than the one before it."""
    canvas.current = 0
    for k in reversed(range(1, len(row.start))):
        z, height = float(row.start[k]), float(row.height[k])
        if z > FAR:
            continue
        points = [(row.x, 0, z), (row.x, height, z), (row.x + side * 60, height, z), (row.x + side * 60, 0, z)]
        red, green, blue = (float(c) * 0.72 for c in row.colour[k])
        canvas.face(points, (red, green, blue), look.wall_warmth - 4)
        canvas.mark(canvas.depth, canvas.camera.project(points), z)


def _paint_row(canvas: Canvas, side: int, row: HouseRow, look: Look, tile: Floats) -> None:
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
    mortar = np.maximum(band(y % 0.16 - 0.08, 0.016, py), band((along + 0.16 * (course % 2)) % 0.32 - 0.16, 0.016, pu))
    blend(rgb, mortar * brick * 0.75, (188, 176, 164))
    warm = look.wall_warmth + (14 if look.sun == -side else 0) + 3 * stain + 4 * np.clip(1 - y / 3, 0, 1)
    warm += 16 * (row.dice[house, 7, 3] - 0.5)  # some houses are better insulated
    light = np.zeros_like(rgb)

    cell = np.floor(along / pitch)
    across = along - (cell + 0.5) * pitch
    storey = np.floor((y - 3.6) / 3.0)
    rise = y - 3.6 - 3.0 * storey - 1.5
    dice = row.dice[house, storey.astype(np.int32) & 7, cell.astype(np.int32) & 15]
    upstairs = (storey >= 0) & (3.6 + 3.0 * (storey + 1) < height)
    frame = band(across, pitch * 0.30, pu) * band(rise, 0.88, py) * upstairs
    glass = band(across, pitch * 0.30 - 0.08, pu) * band(rise, 0.80, py) * upstairs
    sill = band(across, pitch * 0.36, pu) * band(rise + 0.95, 0.08, py) * upstairs
    mullion = np.maximum(band(across, 0.035, pu), band(rise - 0.25, 0.03, py))
    curtain = glass * (dice > 0.55) * (np.abs(across) > pitch * (0.10 + 0.12 * (dice % 0.1) * 10))
    blend(rgb, np.maximum(frame, sill), (206, 202, 194))
    sheen = 0.8 + 0.33 * rise
    blend(rgb, glass, planes((38 + 55 * dice) * sheen, (46 + 62 * dice) * sheen, (58 + 72 * dice) * sheen))
    blend(rgb, curtain * 0.7, (186, 178, 160))
    blend(rgb, glass * mullion, (206, 202, 194))
    blend(warm, glass, look.wall_warmth + (5 if look.dark else -16))

    shop = row.dice[house, 7, 0] > 0.25
    front = band(across, pitch * 0.42, pu) * band(y - 1.5, 1.05, py) * shop
    door = band(across, pitch * 0.22, pu) * band(y - 1.1, 1.1, py) * (cell % 3 == 1) * ~shop
    shelf = np.floor(y / 0.42).astype(np.int32)
    item = np.floor(z / 0.26 + 0.37 * shelf).astype(np.int32)
    goods = (y % 0.42 < 0.12 + 0.05 * (tile[shelf * 53 & 511, item * 37 & 511] + 1.5)) * np.clip(14 / z, 0, 1)
    inside = 52 + 20 * np.clip(y - 0.4, 0, 2)
    paints = [inside + goods * 26 * tile[(shelf * 53 + k) & 511, item * 37 & 511] for k in (60, 150, 240)]
    blend(rgb, front, planes(*paints))
    pillar = band(np.abs(across) - pitch * 0.21, 0.03, pu) * front
    blend(rgb, pillar, (46, 46, 48))
    blend(rgb, door, row.trim[house].T[:, None] * 0.5)
    blend(warm, np.maximum(front, door), look.wall_warmth - 5)
    sign = band(y - 3.05, 0.32, py) * band(across, pitch * 0.48, pu) * shop
    blend(rgb, sign, row.trim[house].T[:, None])
    bars = (
        (np.sin(along * 21, dtype=np.float64) + np.sin(along * 34 + cell, dtype=np.float64) > 0.2)
        * band(y - 3.05, 0.14, py)
        * band(across, pitch * 0.3, pu)
    )
    blend(rgb, bars * shop * np.clip(18 / z, 0, 1), (238, 236, 228))
    cornice = band(y - height + 0.18, 0.18, py)
    blend(rgb, cornice, (176, 170, 160))
    rgb *= 0.72 + 0.28 * np.clip(y / 1.2, 0, 1)
    if look.dark:
        lit = glass * ((dice * 7.3) % 1 < 0.36) * (1 - 0.75 * mullion)
        tone = lit * (0.75 + 0.2 * rise) * np.where(curtain > 0, 0.5, 0.9)
        light += planes((225 + 25 * dice) * tone, (165 + 60 * dice) * tone, (84 + 90 * dice) * tone)
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
