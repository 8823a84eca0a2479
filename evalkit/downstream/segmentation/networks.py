"""The segmentation networks of the papers, from mmsegmentation's own configurations, with nine classes and no download.

A configuration is read from the installed package; what is changed: the number of classes, the statistics of the
images, BatchNorm of one device in place of SyncBN, no address of pretrained weights, and the width of SegFormer's head,
which is the paper's and not the package's. The two networks that fuse features themselves are in `feature_level`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.registry import Registry

if TYPE_CHECKING:
    from torch import nn

Config = dict[str, Any]
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


def model_config(
    name: str,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    crop: tuple[int, int],
    losses: Config | None = None,
    class_weights: Sequence[float] = (),
) -> Config:
    """The network as mmsegmentation's registry builds it.

    Args:
        name: of SEGMENTERS.
        classes: how many, the background included.
        mean, std: of the training images on the scale 0..255, red, green, blue (and infrared for two streams).
        crop: (height, width) of the training samples.
        losses: "decode" and "auxiliary": what replaces the loss and sampler of a head; the package's when not given.
        class_weights: of the cross-entropy, one per class; equal when not given.

    Raises:
        UnknownNameError: no such network.
    """
    from evalkit.downstream.environment import need

    need("segmentation")
    chosen = segmenter(name)
    statistics = {"mean": list(mean), "std": list(std), "size": list(crop)}
    if chosen.streams == 2:
        preprocessor = {"type": "FourChannels", "pad_val": 0, "seg_pad_val": IGNORE, **statistics}
        preprocessor["test_cfg"] = {"size_divisor": 32}
        own = {"network": name, "classes": classes, "class_weights": list(class_weights)}
        return {"type": "FeatureLevel", "data_preprocessor": preprocessor, **own}

    import mmseg
    from mmengine.config import Config as File

    file = Path(mmseg.__file__).parent / ".mim" / "configs" / chosen.config
    model = File.fromfile(str(file)).model.to_dict()
    model["pretrained"] = None
    _walk(model, _without_downloads)
    model["data_preprocessor"] |= statistics
    heads = [("decode", model["decode_head"])]
    auxiliary = model.get("auxiliary_head") or []
    heads += [("auxiliary", head) for head in (auxiliary if isinstance(auxiliary, list) else [auxiliary])]
    for role, head in heads:
        head["num_classes"] = classes
        head |= (losses or {}).get(role, {})
        if class_weights:
            head["loss_decode"] = head["loss_decode"] | {"class_weight": list(class_weights)}
    if chosen.channels:
        model["decode_head"]["channels"] = chosen.channels
    return model


def _walk(part: Any, change: Callable[[Config], None]) -> None:
    if isinstance(part, dict):
        change(part)
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ():
        _walk(inner, change)


def _without_downloads(part: Config) -> None:
    if "type" in part and "init_cfg" in part:
        part["init_cfg"] = None
    if part.get("type") == "SyncBN":  # of several devices; on one it is BatchNorm, and on a CPU it does not run
        part["type"] = "BN"


def build(config: Config) -> nn.Module:
    """The network, its weights drawn by its own rules. Uses torch's random state."""
    import mmseg.models  # noqa: F401 - fills the registry
    from mmengine.config import ConfigDict
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    if not MMLogger.check_instance_created("evalkit"):
        MMLogger.get_instance("evalkit", log_level="ERROR")  # else every tensor is listed
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(ConfigDict(config))
        model.init_weights()
    return model


def find_weights(name: str, checkpoints: Path | None) -> Path | None:
    """The file with the encoder's pretrained weights below `checkpoints`; none where there is none."""
    pattern = segmenter(name).weights
    return next(iter(sorted(checkpoints.glob(pattern))), None) if checkpoints and pattern else None


def load_encoder(model: nn.Module, path: Path) -> None:
    """Copy pretrained weights into the encoder: of ImageNet, or of a whole network of this kind.

    Every tensor of the encoder must be in the file, in its shape; a classifier beside it is passed over. BiSeNet's
    file is of its context path's ResNet.

    Raises:
        CheckpointError: damaged, hostile, or not of this encoder.
    """
    from evalkit.methods.checkpoints import CheckpointError, as_state, read_checkpoint

    content = read_checkpoint(path)
    state = as_state(content, path, *(["state_dict"] if isinstance(content, dict) and "state_dict" in content else []))
    encoder: Any = model.backbone
    if hasattr(encoder, "context_path"):
        encoder = encoder.context_path.backbone
    if any(key.startswith("backbone.") for key in state):
        state = {key.removeprefix("backbone."): v for key, v in state.items() if key.startswith("backbone.")}
    own = encoder.state_dict()
    needed = [key for key in own if not key.endswith("num_batches_tracked")]
    wrong = [key for key in needed if key not in state or state[key].shape != own[key].shape]
    if wrong:
        raise CheckpointError(
            f"the checkpoint {path} is not of this encoder: {len(wrong)} of {len(needed)} tensors are missing or of "
            f"another shape ({', '.join(wrong[:3])})."
        )
    encoder.load_state_dict({key: state[key] for key in own if key in state}, strict=False)


def parameters(model: nn.Module, auxiliary: bool = True) -> int:
    """Trainable numbers, with or without the auxiliary heads, which serve training only."""
    kept = (p for n, p in model.named_parameters() if auxiliary or not n.startswith("auxiliary_head"))
    return sum(p.numel() for p in kept)
