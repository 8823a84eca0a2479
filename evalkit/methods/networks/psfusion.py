"""PSFusion: fusion with progressive semantic injection and a path that keeps both scenes recoverable."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State, as_state, load_strictly
from evalkit.methods.layers.colour import to_rgb, to_ycrcb
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import unit_pillow_gray
from evalkit.methods.layers.resnet import RESNET34
from evalkit.methods.network import NetworkMethod, Pixels, truncated
from evalkit.methods.networks.psfusion_modules import (
    Attention,
    DenseSceneReconstruction,
    Encoder,
    ProfoundSemanticFusion,
    Recalibration,
    SceneFidelityPath,
    SemanticInjection,
    SparseSemanticPath,
    SparseSemanticPerception,
    SuperficialDetailFusion,
    to_unit,
)

MULTIPLE = 32  # five halvings


class Outputs(NamedTuple):
    """All that PSFusion predicts, at the size of the images. `fused` is the result, the rest serves the training.

    Attributes:
        fused: luminance (N, 1, H, W) in [0, 1].
        visible, infrared: reconstructed luminances (N, 1, H, W) in [0, 1]; None without the scene fidelity path.
        semantic, binary, boundary: logits (N, classes, H, W), (N, 2, H, W), (N, 2, H, W); None without S2P2.
    """

    fused: Tensor
    visible: Tensor | None = None
    infrared: Tensor | None = None
    semantic: Tensor | None = None
    binary: Tensor | None = None
    boundary: Tensor | None = None


class PSFusion(nn.Module):
    """Tang et al., Rethinking the necessity of image fusion in high-level vision tasks: A practical infrared and
    visible image fusion network based on progressive semantic injection and scene fidelity, Information Fusion 99,
    2023, 101870, doi:10.1016/j.inffus.2023.101870.

    Infrared (N, 1, H, W) and visible RGB (N, 3, H, W), both in [0, 1] -> fused luminance (N, 1, H, W) in [0, 1]. Right
    and bottom are reflected up to a multiple of 32 and cut off again, which needs sides of at least 17. In training a
    batch of two or more is needed, because maps of one pixel are normalised.

    All heads run always, as in the published code; they are 1 % of the multiply-adds.

    Args:
        classes: of the semantic segmentation, with the background; MSRS has 9.
        width: channels of the first level, a multiple of 8, to which all others are proportional.
        blocks: residual blocks per stage; (2, 2, 2, 2) is ResNet-18.
        recalibration: "self" as in the code, "cross" as in Eq. 4.
        attention: "code", or "eq9" as in Eq. 9.
        profound_fusion: fuse the levels 4 to 6 by PSFM; else by SDFM, as the levels 1 to 3.
        scene_fidelity: have the SFP, which reconstructs both images.
        semantic_path: have the S2P2, which predicts the segmentations.
    """

    def __init__(
        self,
        classes: int = 9,
        width: int = 32,
        blocks: tuple[int, int, int, int] = RESNET34,
        recalibration: Recalibration = "self",
        attention: Attention = "code",
        profound_fusion: bool = True,
        scene_fidelity: bool = True,
        semantic_path: bool = True,
    ) -> None:
        super().__init__()
        deep = 2 * width
        self.infrared, self.visible = Encoder(1, width, blocks), Encoder(3, width, blocks)
        self.superficial = nn.ModuleDict(
            {
                "1": SuperficialDetailFusion(width, width, recalibration),
                "2": SuperficialDetailFusion(deep, width, recalibration),
                "3": SuperficialDetailFusion(deep, deep, recalibration),
            }
        )
        self.profound = nn.ModuleDict(
            {
                level: ProfoundSemanticFusion(channels, deep, attention)
                if profound_fusion
                else SuperficialDetailFusion(channels, deep, recalibration)
                for level, channels in (("4", 4 * width), ("5", 8 * width), ("6", 16 * width))
            }
        )
        self.perception = SparseSemanticPerception(deep)

        self.inject1 = SemanticInjection(width, deep, width)
        self.inject2 = SemanticInjection(width, width, width)
        self.reconstruct1 = DenseSceneReconstruction(width)
        self.inject3 = SemanticInjection(width, deep, width)
        self.reconstruct2 = DenseSceneReconstruction(width)
        self.fused_head = nn.Conv2d(width, 1, 3, padding=1)

        self.segment = SparseSemanticPath(deep, classes) if semantic_path else None
        self.visible_path = SceneFidelityPath(width) if scene_fidelity else None
        self.infrared_path = SceneFidelityPath(width) if scene_fidelity else None

    def fused_features(self, infrared: Tensor, visible: Tensor) -> list[Tensor]:
        """Images with sides that are multiples of 32 -> fused features of the levels 1 to 6."""
        levels = zip(self.visible(visible), self.infrared(infrared), strict=True)
        fusions = (*self.superficial.values(), *self.profound.values())
        return [fuse(*features) for fuse, features in zip(fusions, levels, strict=True)]

    def outputs(self, infrared: Tensor, visible: Tensor) -> Outputs:
        """Everything the network predicts, for the losses."""
        height, width = infrared.shape[-2:]
        border = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        if any(border):
            infrared, visible = (functional.pad(image, border, mode="reflect") for image in (infrared, visible))

        first, second, *deep = self.fused_features(infrared, visible)
        semantics = self.perception(deep)
        # PSIM: level 3 informs level 2, which informs level 1
        scene = self.inject2(first, self.inject1(second, deep[0]))
        scene = self.inject3(self.reconstruct1(scene), semantics)
        scene = self.reconstruct2(scene)

        outputs: list[Tensor | None] = [to_unit(self.fused_head(scene))]
        outputs += [path(scene) if path else None for path in (self.visible_path, self.infrared_path)]
        outputs += self.segment(semantics) if self.segment else (None, None, None)
        return Outputs(*(x if x is None else x[..., :height, :width] for x in outputs))  # type: ignore[arg-type]

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        return self.outputs(infrared, visible).fused


def load_backbone(network: PSFusion, content: Any, path: Path) -> None:
    """Copy torchvision's ImageNet weights of a ResNet into both encoders, as before the authors' training.

    Its first convolution and its classifier are left out: the SFEBs and the fusion stand in their place.

    Args:
        content: what the file holds, a state dict under torchvision's names (ResNet-34 for the default `blocks`).
        path: the file, for messages.

    Raises:
        CheckpointError: another ResNet.
    """
    names = {rf"^layer{i}\.": f"levels.{i + 2}." for i in range(1, 5)}
    state = renamed(content, path, names)
    stages = {key: value for key, value in state.items() if key.startswith(("bn1.", "levels."))}
    for encoder in (network.infrared, network.visible):
        own = {key: value for key, value in encoder.state_dict().items() if key.startswith("sfeb")}
        load_strictly(encoder, own | stages, str(path))


# The order matters: of two changes of one prefix the longer pattern comes first. Of the two reconstruction modules,
# which have the same shapes, the one named after segmentation is taken for the one behind the injection of F_se.
_KEYS = {
    r"^encoder_thermal_": "infrared.",
    r"^encoder_rgb_": "visible.",
    r"^(infrared|visible)\.conv1\.SFEB(\d)\.": r"\1.sfeb\2.",
    r"\.conv_frelu\.": ".conv.",
    r"\.bn_frelu\.": ".norm.",
    r"^(infrared|visible)\.layer(\d)\.": r"\1.levels.\2.",
    r"\.basicconv\.": ".",
    r"^low_fuse(\d)\.": r"superficial.\1.",
    r"^high_fuse(\d)\.obj_fuse\.": r"profound.\1.cross.",
    r"^high_fuse(\d)\.": r"profound.\1.",
    r"\.RGBobj1_1\.": ".visible.0.",
    r"\.RGBobj1_2\.": ".visible.1.",
    r"\.RGBspr\.": ".visible.2.",
    r"\.Infobj1_1\.": ".infrared.0.",
    r"\.Infobj1_2\.": ".infrared.1.",
    r"\.Infspr\.": ".infrared.2.",
    r"\.obj_fuse\.Recalibrate\.": ".recalibrate.",
    r"\.obj_fuse\.channel_agg\.": ".aggregate.",
    r"\.obj_fuse\.local_att\.": ".spatial.",
    r"\.obj_fuse\.global_att\.": ".channel.",
    r"\.RGBobj\.": ".visible.",
    r"\.Infobj\.": ".infrared.",
    r"\.denseblock\.": ".dense.",
    r"\.cross\.RGB_K\.": ".cross.visible_key.",
    r"\.cross\.RGB_V\.": ".cross.visible_value.",
    r"\.cross\.INF_K\.": ".cross.infrared_key.",
    r"\.cross\.INF_V\.": ".cross.infrared_value.",
    r"\.cross\.Q\.": ".cross.query.",
    r"\.cross\.Second_reduce\.": ".cross.join.",
    r"\.cross\.gamma1$": ".cross.gamma_visible",
    r"\.cross\.gamma2$": ".cross.gamma_infrared",
    r"^to_fused_seg\.(\d)\.0\.": r"perception.lateral.\1.",
    r"^seg_decoder\.": "perception.",
    r"^seg_rec_decoder\.": "reconstruct2.",
    r"^rec_decoder\.": "reconstruct1.",
    r"\.block(\d)\.1\.": r".block\1.2.",
    r"\.block(\d)\.0\.bn\.": r".block\1.1.",
    r"\.block(\d)\.0\.conv\.": r".block\1.0.",
    r"^SIM(\d)\.mlp_shared\.0\.": r"inject\1.shared.",
    r"^SIM(\d)\.mlp_gamma\.0\.": r"inject\1.gamma.",
    r"^SIM(\d)\.mlp_beta\.": r"inject\1.beta.",
    r"^SIM(\d)\.bn\.": r"inject\1.norm.",
    r"^classfier\.": "segment.",
    r"^segment\.binary_conv1\.conv\.": "segment.binary.0.",
    r"^segment\.binary_conv1\.bnop\.": "segment.binary.1.",
    r"^segment\.binary_conv2\.": "segment.binary.3.",
    r"^segment\.semantic_conv1\.conv\.": "segment.weighted.0.",
    r"^segment\.semantic_conv1\.bnop\.": "segment.weighted.1.",
    r"^segment\.semantic_conv2\.": "segment.semantic.",
    r"^segment\.boundary_conv\.": "segment.boundary.",
    r"^segment\.boundary_conv1\.conv\.": "segment.unused.0.",
    r"^segment\.boundary_conv1\.bnop\.": "segment.unused.1.",
    r"^segment\.boundary_conv2\.": "segment.unused.3.",
    r"^pred_fusion\.conv_block\.0\.": "fused_head.",
    r"^pred_vi\.": "visible_path.",
    r"^pred_ir\.": "infrared_path.",
    r"^(\w+_path)\.mask\.local_att\.": r"\1.local.",
    r"^(\w+_path)\.mask\.global_att\.": r"\1.channel.",
    r"^(\w+_path)\.mask\.conv_block\.": r"\1.norm.",
    r"^(\w+_path)\.conv_block\.0\.": r"\1.head.",
}


def _convert(content: Any, path: Path) -> State:
    return renamed(as_state(content, path, "MTAN"), path, _KEYS)


def _resized(image: Pixels, height: int, width: int) -> Pixels:
    """Pillow's bicubic resizing, its default; unchanged where the size is right."""
    if image.shape[:2] == (height, width):
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _fitted(image: Pixels) -> Pixels:
    """Shrunk to the next lower multiples of 32, as the authors' test script does; sides below 32 grow to it."""
    height, width = (max(side // MULTIPLE, 1) * MULTIPLE for side in image.shape[:2])
    return _resized(image, height, width)


def _unit_colour(image: Pixels) -> Tensor:
    """(3, H, W) float32 in [0, 1]; gray three times."""
    colour = image if image.ndim == 3 else np.stack([image] * 3, axis=2)
    return torch.from_numpy(colour.transpose(2, 0, 1).astype(np.float32) / 255)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_pillow_gray(_fitted(infrared)), _unit_colour(_fitted(visible))


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """Colours of the visible image, bytes, then back to its size; gray stays gray."""
    if visible.ndim == 2:
        fused = truncated(output[0].numpy() * 255)
    else:
        chroma = to_ycrcb(_unit_colour(_fitted(visible)))[1:]
        fused = truncated(to_rgb(torch.cat((output, chroma))).movedim(0, -1).numpy() * 255)
    return _resized(fused, *visible.shape[:2])


METHODS = {"PSFusion": NetworkMethod(PSFusion, _prepare, _finish, ("best_model.pth",), _convert)}
