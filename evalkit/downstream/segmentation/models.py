"""The segmentation networks of the papers, from mmsegmentation's own configurations, with nine classes and no download.

A configuration is read from the installed package; what is changed: the number of classes, the statistics of the
images, BatchNorm of one device in place of SyncBN, no address of pretrained weights, and the width of SegFormer's head,
which is the paper's and not the package's. Networks that evalkit has code for are in `systems`.
Needs the extra `segmentation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mmseg
import mmseg.models  # fills the registry
from mmengine.config import Config as ConfigFile
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn

from evalkit.downstream.segmentation.networks import segmenter
from evalkit.downstream.segmentation.pixels import IGNORE
from evalkit.downstream.segmentation.segmentor import OwnSegmentor
from evalkit.downstream.segmentation.system import fill
from evalkit.methods.checkpoints import as_state, read_checkpoint
from evalkit.methods.layers.mit_names import OPENMMLAB_FIRST, in_form_of

Config = dict[str, Any]


def model_config(
    name: str,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    crop: tuple[int, int],
    losses: Config | None = None,
    class_weights: Sequence[float] = (),
    reduced: Config | None = None,
) -> Config:
    """The network as mmsegmentation's registry builds it.

    Args:
        name: of SEGMENTERS.
        classes: how many, the background included.
        mean, std: of the training images on the scale 0..255, red, green, blue (and infrared for two streams).
        crop: (height, width) of the training samples.
        losses: "decode" and "auxiliary": what replaces the loss and sampler of a head; the package's when not given.
        class_weights: of the cross-entropy, one per class; equal when not given.
        reduced: of a network in evalkit's own code, how it is built where smaller than published; else passed over.

    Raises:
        UnknownNameError: no such network.
    """
    network = segmenter(name)
    statistics = {"mean": list(mean), "std": list(std), "size": list(crop)}
    if network.network is not None:
        if network.network().prepare is not None:  # the network's program normalises in its own way
            statistics |= {"mean": [0.0] * len(mean), "std": [1.0] * len(std)}
        preprocessor = {"type": "AnyChannels", "pad_val": 0, "seg_pad_val": IGNORE, "bgr_to_rgb": True, **statistics}
        preprocessor["test_cfg"] = {"size_divisor": 1}
        own = {
            "network": name,
            "classes": classes,
            "class_weights": list(class_weights),
            "reduced": dict(reduced or {}),
        }
        return {"type": "OwnSegmentor", "data_preprocessor": preprocessor, **own}

    file = Path(mmseg.__file__).parent / ".mim" / "configs" / network.config
    model = ConfigFile.fromfile(str(file)).model.to_dict()
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
    if network.card.channels:
        model["decode_head"]["channels"] = network.card.channels
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
    if not MMLogger.check_instance_created("evalkit"):
        MMLogger.get_instance("evalkit", log_level="ERROR")  # else every tensor is listed
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(ConfigDict(config))
        model.init_weights()
    return model


def load_encoder(model: nn.Module, path: Path) -> None:
    """Copy pretrained weights into the encoder: of ImageNet, or of a whole network of this kind.

    SegFormer's and SegNeXt's may be in the form of their authors or of OpenMMLab.

    Every tensor of the encoder must be in the file, in its shape; a classifier beside it is passed over. BiSeNet's
    file is of its context path's ResNet; evalkit's own networks read the file by the names of its authors.

    Raises:
        CheckpointError: damaged, hostile, or not of this encoder.
    """
    content = read_checkpoint(path)
    if isinstance(model, OwnSegmentor):
        model.system.load_pretrained(model.network, content, path)
        return
    state = as_state(content, path, *(["state_dict"] if isinstance(content, dict) and "state_dict" in content else []))
    encoder: Any = model.backbone
    if hasattr(encoder, "context_path"):
        encoder = encoder.context_path.backbone
    if any(key.startswith("backbone.") for key in state):
        state = {key.removeprefix("backbone."): v for key, v in state.items() if key.startswith("backbone.")}
    if OPENMMLAB_FIRST in encoder.state_dict():
        state = in_form_of(OPENMMLAB_FIRST, state, path)
    state = {key.replace(".mlp.dwconv.dwconv.", ".mlp.dwconv."): value for key, value in state.items()}  # SegNeXt's
    fill(encoder, state, ("",), path)
