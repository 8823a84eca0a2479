"""SemLA's registration: features that know objects, matched between the images, and a thin plate that aligns them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from torch import Tensor, nn
from torch.nn import functional

from evalkit.errors import ImageError

Mode = Literal["scene", "semantic"]
THRESHOLDS: dict[Mode, float] = {"scene": 0.0, "semantic": 0.5}  # of the semantic maps: where features are matched
STRIDE = 8  # of the features, in pixels
TEMPERATURE = 0.1
WIDTH = 256
RANSAC = 5.0  # distance of an inlier from its place under a homography, in pixels
# the authors number the matches they hand to OpenCV's spline from 1, where it counts from 0: the first is lost
FIRST_USED = 1


class JointBlock(nn.Module):
    """3x3 convolution, then a depth-wise and a pointwise residual: (N, C, H, W) -> (N, C', H, W)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
        )
        self.mlp = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.depthwise(x)
        return x + self.mlp(x)


def start_kaiming(network: nn.Module) -> None:
    """The authors' start of convolutions: normal, by their outputs."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def haar(x: Tensor) -> Tensor:
    """(N, C, H, W), even sides -> (N, 4C, H/2, W/2): Haar's approximations, then details of rows, columns and both."""
    a, b, c, d = (x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
    return torch.cat((a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d), dim=1) / 2


class Calibration(nn.Module):
    """Sequences (N, L, 256), weighted by a guidance (N, L) that the other image gives -> the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        x = x + self.out(guidance[..., None] * self.value(self.norm1(x)))
        return x + self.mlp(self.norm2(x))


class LinearAttention(nn.Module):
    """LoFTR's self-attention of linear cost (Sun et al., CVPR 2021): (N, L, 256) -> (N, L, 256), eight heads."""

    def __init__(self, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.merge = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(2 * WIDTH, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, WIDTH, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).unflatten(2, (self.heads, -1)) for layer in (self.query, self.key, self.value))
        query, key = functional.elu(query) + 1, functional.elu(key) + 1
        sums = torch.einsum("nlhd,nlhv->nhdv", key, value)
        weight = 1 / (torch.einsum("nlhd,nhd->nlh", query, key.sum(dim=1)) + 1e-6)
        message = torch.einsum("nlhd,nhdv,nlh->nlhv", query, sums, weight).flatten(2)
        return x + self.norm2(self.mlp(torch.cat((x, self.norm1(self.merge(message))), dim=2)))


class Structure(nn.Module):
    """Semantic maps, each (N, 1, H, W) -> of each, features (N, 256, H, W) of where its objects lie."""

    def __init__(self) -> None:
        super().__init__()
        self.grid, self.semantic = JointBlock(2, WIDTH), JointBlock(WIDTH, WIDTH)
        self.attention = LinearAttention()

    def forward(self, *maps: Tensor) -> list[Tensor]:
        height, width = maps[0].shape[2:]
        rows, columns = (torch.linspace(0, 1, n, device=maps[0].device, dtype=maps[0].dtype) for n in (height, width))
        places = torch.stack((rows[:, None].expand(height, width), columns.expand(height, width)))
        grid = self.grid(places[None])
        return [to_image(self.attention(to_rows(self.semantic(grid * semantic))), height) for semantic in maps]


def to_rows(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H W, C)."""
    return x.flatten(2).transpose(1, 2)


def to_image(rows: Tensor, height: int) -> Tensor:
    """(N, H W, C) -> (N, C, H, W)."""
    return rows.transpose(1, 2).unflatten(2, (height, -1))


def similarity(visible: Tensor, infrared: Tensor) -> Tensor:
    """(N, L, 256), (N, M, 256) -> (N, L, M): how alike positions are."""
    return visible @ infrared.transpose(1, 2) / (WIDTH * TEMPERATURE)


class Described(NamedTuple):
    """Features (N, 256, H/8, W/8) of both images, and their semantic maps (N, 1, H/8, W/8) in [0, 1]."""

    visible: Tensor
    infrared: Tensor
    visible_semantic: Tensor
    infrared_semantic: Tensor


class SemlaRegistration(nn.Module):
    """Luminance of the visible image and infrared image, both (N, 1, H, W) in [0, 1], sides of 8 n -> `Described`."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = nn.ModuleList((JointBlock(1, 8), JointBlock(32, 16), JointBlock(64, 32), JointBlock(128, WIDTH)))
        self.last = nn.Sequential(*(JointBlock(WIDTH, WIDTH) for _ in range(3)))
        self.semantic = nn.Sequential(
            JointBlock(WIDTH, WIDTH), JointBlock(WIDTH, 128), JointBlock(128, 32), JointBlock(32, 1), nn.Sigmoid()
        )
        self.calibrate = nn.ModuleList((Calibration(), Calibration()))
        self.structure = Structure()
        start_kaiming(self)

    def features(self, images: Tensor, levels: int = 4) -> Tensor:
        """(N, 1, H, W) -> the features after so many blocks of the pyramid, between which Haar's transform halves."""
        x = self.pyramid[0](images)
        for block in self.pyramid[1:levels]:
            x = block(haar(x))
        return x

    def forward(self, visible: Tensor, infrared: Tensor) -> Described:
        both = self.last(self.features(torch.cat((visible, infrared))))
        visible, infrared = both.chunk(2)
        infrared_semantic = self.semantic(infrared)
        rows = to_rows(visible)
        # of every infrared position: which visible position it is, times whether it is an object
        weights = similarity(rows, to_rows(infrared)).softmax(dim=1)
        guidance = (weights @ infrared_semantic.flatten(2).transpose(1, 2))[..., 0] * 1.5
        for block in self.calibrate:
            rows = block(rows, guidance)
        visible_semantic = self.semantic(to_image(rows, visible.shape[2]))
        structures = self.structure(visible_semantic, infrared_semantic)
        return Described(visible + structures[0], infrared + structures[1], visible_semantic, infrared_semantic)


def enlarged_map(semantic: Tensor) -> Tensor:
    """Semantic map (N, 1, H/8, W/8) -> (N, 1, H, W)."""
    return functional.interpolate(semantic, scale_factor=STRIDE, mode="bilinear", align_corners=True)


def matches(described: Described, mode: Mode) -> tuple[NDArray, NDArray]:
    """Positions of one pair that are each other's most similar ones.

    Args:
        described: of one pair (N = 1).
        mode: "scene" matches all positions, "semantic" those of objects alone.

    Returns:
        In the visible and in the infrared image, (n, 2) int64 each, column and row in pixels.
    """
    width = described.visible.shape[3]
    maps = described.visible_semantic, described.infrared_semantic
    kept = [torch.where(semantic.flatten() > THRESHOLDS[mode])[0] for semantic in maps]
    if not all(len(positions) for positions in kept):
        return (np.zeros((0, 2), np.int64),) * 2
    features = [to_rows(x)[:, k] for x, k in zip((described.visible, described.infrared), kept, strict=True)]
    alike = similarity(*features)[0]
    mutual = (alike > 0) & (alike == alike.amax(1, keepdim=True)) & (alike == alike.amax(0, keepdim=True))
    first, second = torch.where(mutual)
    firsts = torch.cat((first.new_ones(1), first.diff())).bool()[: len(first)]  # of equals the first one
    places = [positions[i[firsts]] for positions, i in zip(kept, (first, second), strict=True)]
    visible, infrared = (torch.stack((p % width, p // width), dim=1).cpu().numpy() * STRIDE for p in places)
    return visible, infrared


class ThinPlate:
    """A thin-plate spline from places in the visible image to places in the infrared one.

    Args:
        visible, infrared: matched places, (n, 2), column and row in pixels, possibly wrong ones among them.

    Raises:
        ImageError: too few of the matches fit a homography, or they lie on one line.
    """

    def __init__(self, visible: NDArray, infrared: NDArray) -> None:
        used: NDArray = np.zeros(0, np.intp)
        if len(visible) >= 4:  # which a homography needs
            inliers = cv2.findHomography(visible, infrared, cv2.RANSAC, RANSAC)[1]
            used = np.flatnonzero(inliers)[FIRST_USED:] if inliers is not None else used
        try:
            self.spline = RBFInterpolator(visible[used].astype(float), infrared[used].astype(float))
        except (ValueError, np.linalg.LinAlgError) as error:
            raise ImageError(
                f"SemLA cannot align this pair: {len(visible)} matches, {len(used)} of them used. "
                "Fuse it without registration."
            ) from error

    def warp(self, image: NDArray) -> NDArray:
        """An infrared image or map (H, W), taken to the visible image's places; zeros from outside."""
        height, width = image.shape
        places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2)
        columns, rows = self.spline(places).astype(np.float32).reshape(height, width, 2).transpose(2, 0, 1)
        return cv2.remap(image, np.ascontiguousarray(columns), np.ascontiguousarray(rows), cv2.INTER_LINEAR)


BLOCK_KEYS = {
    r"\.feat_trans\.conv\.": ".first.0.",
    r"\.feat_trans\.bn\.": ".first.1.",
    r"\.dwconv\.group_conv3x3\.": ".depthwise.0.",
    r"\.dwconv\.norm\.": ".depthwise.1.",
    r"\.dwconv\.projection\.": ".depthwise.3.",
    r"\.norm\.": ".mlp.0.",
    r"\.mlp\.conv1\.": ".mlp.1.",
    r"\.mlp\.conv2\.": ".mlp.3.",
}  # of a `JointBlock`
KEYS = {
    **BLOCK_KEYS,
    r"^reg(\d)\.": r"pyramid.\1.",
    r"^pred_reg\.": "last.",
    r"^sa(\d)\.": r"semantic.\1.",
    r"^csc(\d)\.qkv\.": r"calibrate.\1.value.",
    r"^csc(\d)\.proj_out\.": r"calibrate.\1.out.",
    r"^csc(\d)\.mlp\.fc\.": r"calibrate.\1.mlp.",
    r"^csc(\d)\.": r"calibrate.\1.",
    r"^ssr\.grid_embedding\.": "structure.grid.",
    r"^ssr\.semantic_embedding\.": "structure.semantic.",
    r"\.q_proj\.": ".query.",
    r"\.k_proj\.": ".key.",
    r"\.v_proj\.": ".value.",
    r"^ssr\.": "structure.",
}  # the authors' name -> ours
