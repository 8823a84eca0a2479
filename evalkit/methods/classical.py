"""Classical fusion rules: gray images in, gray image out, deterministic, any size.

The rules on pixels and on blocks are here; `FUSERS` holds all classical methods by name, `FROM_FILES` those that need
files of their authors.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from evalkit.data.images import Gray
from evalkit.methods.filters import gff, gtf
from evalkit.methods.pyramids import contrast, laplacian, ratio
from evalkit.methods.rules import Array, choose_max, to_8bit
from evalkit.methods.shearlets import nsst_papcnn
from evalkit.methods.sparse import csmca
from evalkit.methods.wavelets import dtcwt, dwt

REVISION = 2  # raised whenever a method's fused images change: images of another revision are made again


def average(infrared: Gray, visible: Gray) -> Gray:
    """Mean of the two images, halves rounded to even."""
    return to_8bit((infrared.astype(np.float64) + visible) / 2)


def maximum(infrared: Gray, visible: Gray) -> Gray:
    """The brighter of the two pixels."""
    return np.maximum(infrared, visible)


def pca(infrared: Gray, visible: Gray) -> Gray:
    """Principal component analysis (Naidu and Raol 2008, doi:10.14429/dsj.58.1653).

    The sources are weighted as the two components of the leading eigenvector of their 2x2 covariance, scaled to sum
    to 1.
    """
    weight = pca_weight(infrared, visible)
    return to_8bit(weight * infrared + (1 - weight) * visible)


def pca_weight(a: Gray, b: Gray) -> float:
    """The weight of `a`; 1/2 where the covariance has no leading eigenvector.

    Magnitudes of the components are taken: of sources with a negative correlation one component is negative, and the
    paper's weights would leave 0..1, without bound.
    """
    x, y = a - a.mean(), b - b.mean()
    variance_a, variance_b, covariance = float((x * x).mean()), float((y * y).mean()), float((x * y).mean())
    if covariance == 0 and variance_a == variance_b:
        return 0.5
    angle = math.atan2(2 * covariance, variance_a - variance_b) / 2  # of the leading eigenvector
    first, second = abs(math.cos(angle)), abs(math.sin(angle))
    return first / (first + second)


def msvd(infrared: Gray, visible: Gray) -> Gray:
    """Multi-resolution singular value decomposition, MSVD (Naidu 2011, doi:10.14429/dsj.61.705); one level.

    The 2x2 blocks of an image, as columns of a 4 x n matrix, are turned into the basis of its left singular vectors.
    The first coefficient, the smooth one, is averaged; of the three others the larger in magnitude is kept.

    One basis, of both sources' blocks together, serves both: the paper takes one for each and rebuilds with the mean of
    the two, which is not orthogonal where they differ, and undefined where a singular value is zero or repeated.
    """
    blocks_a, blocks_b = to_blocks(infrared.astype(np.float64)), to_blocks(visible.astype(np.float64))
    basis = np.linalg.eigh(blocks_a @ blocks_a.T + blocks_b @ blocks_b.T)[1][:, ::-1]
    a, b = basis.T @ blocks_a, basis.T @ blocks_b
    fused = choose_max(a, b)
    fused[0] = (a[0] + b[0]) / 2
    return to_8bit(from_blocks(basis @ fused, infrared.shape))


def to_blocks(image: Array) -> Array:
    """The 2x2 blocks of an image as columns, (4, n); an odd side is lengthened by repeating its last line."""
    image = np.pad(image, [(0, side % 2) for side in image.shape], mode="edge")
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    return image.reshape(rows, 2, columns, 2).transpose(1, 3, 0, 2).reshape(4, -1)


def from_blocks(blocks: Array, shape: tuple[int, ...]) -> Array:
    """The image, of the given shape, of `to_blocks`."""
    rows, columns = -(-shape[0] // 2), -(-shape[1] // 2)
    image = blocks.reshape(2, 2, rows, columns).transpose(2, 0, 3, 1).reshape(2 * rows, 2 * columns)
    return image[: shape[0], : shape[1]]


FUSERS: dict[str, Callable[[Gray, Gray], Gray]] = {
    "average": average,
    "maximum": maximum,
    "PCA": pca,
    "laplacian": laplacian,
    "RP": ratio,
    "contrast": contrast,
    "DWT": dwt,
    "DTCWT": dtcwt,
    "MSVD": msvd,
    "GFF": gff,
    "GTF": gtf,
    "NSST-PAPCNN": nsst_papcnn,
}
FROM_FILES: dict[str, Callable[..., Callable[[Gray, Gray], Gray]]] = {"CSMCA": csmca}  # called with the card's files
