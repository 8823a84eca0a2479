"""The people and bicycles of the sample scenes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.data.samples.canvas import BIKE, NO_LIGHT, PERSON, RGB, Canvas, Look, oval, shift, tint


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
    """A person: head and hands warmest, then chest, trousers, shoes.

    Args:
        canvas: is painted on.
        x, z: where it stands, in metres.
        pose: joints.
        clothes: colours.
        scale: factor on the pose's size.
        flip: -1 mirrors the pose, 1 does not.
        look: of the scene's condition.
    """
    canvas.begin(PERSON, z, hot=True)
    size = canvas.camera.focal / z * scale
    foot = canvas.camera.project([(x, 0, z)])[0]
    warm = 206.0 if look.dark else 196.0

    def at(joint: Joint) -> NDArray[np.float64]:
        return shift(foot, flip * joint[0] * size, -joint[1] * size)

    def limb(a: Joint, b: Joint, ra: float, rb: float, rgb: RGB, heat: float) -> None:
        ends = np.concatenate([oval(at(a), ra * size, ra * size, 10), oval(at(b), rb * size, rb * size, 10)])
        canvas.polygon(cv2.convexHull(ends.astype(np.float32))[:, 0], rgb, heat)

    def leg(k: int) -> None:
        hip, knee, ankle = pose.legs[k]
        tone = tint(clothes.legs, 0.75 + 0.25 * k)
        toe = (ankle[0] + 0.13 * pose.toe, ankle[1] - 0.04)
        limb((ankle[0] - 0.03 * pose.toe, ankle[1] - 0.03), toe, 0.05, 0.04, (34, 30, 28), warm - 66)
        limb(knee, ankle, 0.065, 0.05, tone, warm - 26)
        limb(hip, knee, 0.095, 0.07, tone, warm - 18)

    def arm(k: int) -> None:
        shoulder, elbow, hand = pose.arms[k]
        tone = tint(clothes.top, 0.72 + 0.2 * k)
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
    limb((hip[0], hip[1] + 0.08), (top[0], top[1] - 0.08), dx * 0.45, dx * 0.55, tint(clothes.top, 1.12), warm + 4)
    arm(1)
    limb((top[0], top[1] + 0.03), pose.head, 0.055, 0.05, clothes.skin, warm + 30)
    canvas.polygon(oval(at(pose.head), 0.09 * size, 0.125 * size), clothes.skin, min(250, warm + 36))
    back = (pose.head[0] - 0.03 * pose.toe, pose.head[1] + 0.045)
    canvas.polygon(oval(at(back), 0.092 * size, 0.085 * size), clothes.hair, warm + 10)
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
    """A bicycle: wheels, frame, saddle, handlebar. Its mask covers the wheels' discs, as in hand-drawn labels.

    Args:
        canvas: is painted on.
        x, z: where it stands, in metres.
        sideways: whether it is seen from its side.
        flip: 1 heads right, -1 left.
        colour: RGB of the frame, 0..255 each.
        look: of the scene's condition.
    """
    canvas.begin(BIKE, z)
    size = canvas.camera.focal / z
    foot = canvas.camera.project([(x, 0, z)])[0]
    warm = look.body_warmth + 8
    canvas.cast(
        [(x + (0.9 if sideways else 0.2) * np.cos(t), 0, z + 0.2 * np.sin(t)) for t in np.linspace(0, 6.28, 12)], 110
    )

    def at(*joints: Joint) -> list[NDArray[np.float64]]:
        return [shift(foot, flip * a * size, -b * size) for a, b in joints]

    def bar(thick: float, rgb: RGB, *joints: Joint, heat: float = 0.0) -> None:
        canvas.stroke(at(*joints), max(2.0, thick * size), rgb, warm + heat)

    if not sideways:
        canvas.polygon(oval(at((0, 0.34))[0], max(0.05 * size, 1.5), 0.34 * size), (20, 20, 22), warm + 12)
        bar(0.05, colour, (0, 0.4), (0, 0.98))
        bar(0.035, (40, 40, 42), (-0.29, 1.02), (-0.1, 1.0), (0.1, 1.0), (0.29, 1.02))
        bar(0.08, (30, 28, 28), (-0.08, 0.9), (0.08, 0.9))
        spot = oval(at((0, 0.72))[0], 0.045 * size, 0.045 * size, 8)
        canvas.polygon(spot, (170, 30, 28), warm, (210, 24, 18) if look.dark else NO_LIGHT)
        return
    for hub in ((-0.53, 0.34), (0.53, 0.34)):
        ring = oval(at(hub)[0], 0.33 * size, 0.33 * size, 26)
        canvas.mark(canvas.label, ring, canvas.current)
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
