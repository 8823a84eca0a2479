"""What stands where in a sample scene: streets, furniture, traffic and people, drawn far to near."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evalkit.data.samples.canvas import Camera, Canvas, Look, Street
from evalkit.data.samples.cars import STYLES, car
from evalkit.data.samples.furniture import bump, car_stop, cone, lamp_post, rail, road_sign, tree
from evalkit.data.samples.people import Clothes, bike, person, riding, walking
from evalkit.data.samples.street import build_row, paint_ground, paint_houses, paint_sky

CONDITIONS = ("day", "night", "glare", "smoke")
SCALE = 2  # drawn this much larger, then averaged down

Draw = Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """What is decided about a scene before anything is drawn; metres."""

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


def place_camera(rng: np.random.Generator, width: int, height: int) -> Camera:
    """Where the camera looks, for an image of this size.

    Args:
        rng: draws what varies.
        width, height: of the canvas, in pixels.
    """
    focal = float(rng.uniform(0.8, 0.94)) * min(width, height * 4 / 3)
    return Camera(focal, width * float(rng.uniform(0.45, 0.53)), height * float(rng.uniform(0.40, 0.45)))


# --- what stands where -----------------------------------------------------------------------------------------------


def draw(canvas: Canvas, index: int, condition: str, rng: np.random.Generator, grain: np.random.Generator) -> Plan:
    """Decide the layout and draw it, far to near.

    Args:
        canvas: is painted on.
        index: of the scene; decides which classes it shows.
        condition: one of CONDITIONS.
        rng: draws what stands where.
        grain: draws textures, which may depend on the size of the image.
    """
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
