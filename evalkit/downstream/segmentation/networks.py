"""The names of the segmentation networks, and where each is: read without what building them needs (`models`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from evalkit.registry import Registry

IGNORE = 255  # of labels: pixels that are not learned and not counted


@dataclass(frozen=True)
class Segmenter:
    """A network: where its configuration is, and the file that its authors' pretrained encoder comes as."""

    config: str  # below mmseg/.mim/configs, or an absolute path; empty for a network of evalkit
    weights: str  # pattern of the file name below --checkpoints
    channels: int | None = None  # of the head, where the paper's differ from the package's
    streams: int = 1  # 2: takes the visible and the infrared image, four channels


SHIPPED = {
    "DeepLabV3+-R50": Segmenter("deeplabv3plus/deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py", "resnet50_v1c*.pth"),
    "DeepLabV3+-R101": Segmenter(
        "deeplabv3plus/deeplabv3plus_r101-d8_4xb4-160k_ade20k-512x512.py", "resnet101_v1c*.pth"
    ),
    "SegNeXt-T": Segmenter("segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py", "mscan_t*.pth"),
    "SegNeXt-B": Segmenter("segnext/segnext_mscan-b_1xb16-adamw-160k_ade20k-512x512.py", "mscan_b*.pth"),
    "SegNeXt-L": Segmenter("segnext/segnext_mscan-l_1xb16-adamw-160k_ade20k-512x512.py", "mscan_l*.pth"),
    "SegFormer-B0": Segmenter("segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py", "mit_b0*.pth"),
    "SegFormer-B2": Segmenter("segformer/segformer_mit-b2_8xb2-160k_ade20k-512x512.py", "mit_b2*.pth", channels=768),
    "SegFormer-B4": Segmenter("segformer/segformer_mit-b4_8xb2-160k_ade20k-512x512.py", "mit_b4*.pth", channels=768),
    "BiSeNetV1-R18": Segmenter("bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024.py", "resnet18*.pth"),
    "MFNet": Segmenter("", "", streams=2),
    "TwoStreamResNet-18": Segmenter("", "", streams=2),
}
SEGMENTERS: Registry[Segmenter] = Registry("segmentation network", "evalkit.downstream.segmentation.networks")


def register_shipped() -> None:
    """Register the networks of the papers."""
    for name, network in SHIPPED.items():
        SEGMENTERS.add(name, network)


def register_segmenter(
    name: str, config: str | os.PathLike[str], weights: str = "", channels: int | None = None
) -> None:
    """Register a segmentation network that mmsegmentation can build.

    Args:
        name: as recipes and tables call it.
        config: a configuration of mmsegmentation, a .py file below the package's own `configs` folder
            ("segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py") or, as an absolute path, a file of yours.
        weights: pattern of the file name of its pretrained encoder below --checkpoints; none: trained from scratch.
        channels: of the head, where they are to differ from the configuration's.

    Raises:
        EvalkitError: the name is taken.
    """
    SEGMENTERS.add(name, Segmenter(os.fspath(config), weights, channels))


def segmenter(name: str) -> Segmenter:
    """A network by name, whatever the case. Raises UnknownNameError."""
    return SEGMENTERS.find(name)


def find_weights(name: str, checkpoints: Path | None) -> Path | None:
    """The file with the encoder's pretrained weights below `checkpoints`; none where there is none."""
    pattern = segmenter(name).weights
    return next(iter(sorted(checkpoints.glob(pattern))), None) if checkpoints and pattern else None
