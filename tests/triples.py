"""Two triples (fused, infrared, visible) by integer formulas alone: the same bytes on every machine.

Both have edges, flat parts and no symmetry. "waves" has pixels of levels 0, 254 and 255 in common; "blocks" has none of
them, so that it is stretched where a convention stretches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
SIZES = {"blocks": (181, 203), "waves": (192, 177)}  # MS-SSIM needs 176 pixels


def random_bytes(count: int, seed: int) -> NDArray[np.int64]:
    """Bytes of a linear congruential generator (Knuth's MMIX constants), the highest eight bits of each state."""
    state, values = seed, []
    for _ in range(count):
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        values.append(state >> 56)
    return np.array(values, np.int64)


def triangle(x: NDArray[np.int64], period: int) -> NDArray[np.int64]:
    """A triangle wave 0..255."""
    return np.abs((x % period) * 2 - period) * 255 // period


def triple(name: str) -> tuple[Gray, Gray, Gray]:
    """Fused, infrared and visible image, uint8 (H, W)."""
    height, width = SIZES[name]
    y, x = np.mgrid[:height, :width].astype(np.int64)
    noise = random_bytes(height * width, 1 + len(name)).reshape(height, width)
    if name == "blocks":  # squares of random levels; a bright disk in the infrared image only
        levels = random_bytes(23 * 26, 7).reshape(23, 26)
        visible = levels[y // 8, x // 8] + noise % 13 - 6
        infrared = triangle(x + 2 * y, 151) // 2 + noise % 7
        infrared[(y - 70) ** 2 + (x - 120) ** 2 < 1600] = 250
        infrared += (noise > 250) * 9
        fused = (2 * np.maximum(infrared, visible) + infrared + visible) // 4
    else:  # crossing waves
        visible = (triangle(3 * x + y, 97) + triangle(x * x // 64 + y, 61)) // 2 + noise % 17 - 8
        infrared = triangle(y * y // 32 + x, 211) * 3 // 4 + noise % 5
        infrared[20:50, 30:90] = 255
        visible[30:70, 60:110] = 255 - noise[30:70, 60:110] % 2
        fused = (3 * infrared + 5 * visible + noise % 9) // 8
        fused[100:110, 100:130] = 0
        fused[120:160, 40:100] = visible[120:160, 40:100]  # edges of equal strength
    low, high = (5, 240) if name == "blocks" else (0, 255)
    as_bytes = (np.clip(image, low, high).astype(np.uint8) for image in (fused, infrared, visible))
    return tuple(as_bytes)  # type: ignore[return-value]
