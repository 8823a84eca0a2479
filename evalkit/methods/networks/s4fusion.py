"""S4Fusion: two encoders, one state that reads both images in turn, one decoder; all of them selective scans.

Paper and published code differ. The default is the code, because weights come from it; each difference has an option:

* `wiring`: the code adds the fused features of a scale, then expands, so those of the finest scale have no place and
  are dropped. Eq. 2 expands first and uses all of them.
* `pre_norm`: in the paper a block of the fusion module begins with a LayerNorm.
* `marked_parameters`: in Algorithm 1 step, B and C come from the marked sequence, in the code from the unmarked one.
* `separate_steps`: in Algorithm 1 all of what finds the step is the modality's own; the code shares its second factor.

By Eq. 1 the features that are fused come after a level's blocks; in the code they come before, at the same sizes. With
Eq. 1 taken by the letter the sizes of Eq. 2 do not fit, so there is no option for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State, as_state
from evalkit.methods.layers.cross_modal import (
    HEADS,
    Addition,
    ConvFusion,
    CrossAttention,
    CrossScan,
    PairwiseFusion,
    hidden_for,
)
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.selective_scan import scan_flops
from evalkit.methods.layers.state_space import (
    GatedMap,
    VSSBlock,
    from_sequences,
    init_step_weight,
    interleave,
    recover,
    to_sequences,
)
from evalkit.methods.network import NetworkMethod, Pixels, count_parameters, round_levels, unit_gray

PATCH, STRIDE = 4, 3  # neighbouring patches share a line of pixels
FOLDED = 12  # channels of the image that the patches are folded into


@dataclass(frozen=True)
class Options:
    """Sizes, and what paper and code do differently; the default is the published network.

    Attributes:
        widths: channels d of the three levels.
        depths: VSS blocks of the three levels, G in the paper.
        cmsa_blocks: K, blocks of the fusion module.
        states, cmsa_states: n of the scans outside and inside the fusion module.
        expansion: inner channels of a scan per channel.
        fusion: the fusion module, or what Table 3 puts in its place.
        marks: add the patch mark, Eqs. 3 and 4.
        wiring: of the decoder, see above.
        use_r1: compute the finest fused features though the code's wiring drops them; changes the time only.
        dead_weights: have the weights that are in a checkpoint without effect: the finest fusion module (with the
            code's wiring) and the last LayerNorm.
        pre_norm, marked_parameters, separate_steps: see above.
    """

    widths: tuple[int, int, int] = (48, 96, 192)
    depths: tuple[int, int, int] = (1, 2, 1)
    cmsa_blocks: int = 3
    states: int = 12
    cmsa_states: int = 18
    expansion: float = 1.5
    fusion: Literal["CMSA", "ADD", "CNN", "CA", "FSSM"] = "CMSA"
    marks: bool = True
    wiring: Literal["code", "paper"] = "code"
    use_r1: bool = False
    dead_weights: bool = True
    pre_norm: bool = False
    marked_parameters: bool = False
    separate_steps: bool = False

    def inner(self, width: int) -> int:
        """Channels D of a scan between layers of so many channels."""
        return int(self.expansion * width)


# small enough to be trained without a GPU, on crops of 109 pixels
CPU_OPTIONS = Options(widths=(24, 48, 96), depths=(1, 1, 1), cmsa_blocks=1, states=8, cmsa_states=8)


def padded(length: int) -> int:
    """The smallest side from `length` on that the network takes: 12 k + 1 with k of at least 1."""
    return max(12 * -(-(length - 1) // 12), 12) + 1


class PatchEmbed(nn.Module):
    """Patches of 4x4 pixels that overlap by one, projected and normalised: (N, 1, H, W) -> (N, T, T', d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, PATCH, stride=STRIDE)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.proj(image).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Every 2x2 elements become one of twice the channels: (N, H, W, d) -> (N, H/2, W/2, 2d); sides even."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(self.norm(two_by_two(x)))


def two_by_two(x: Tensor) -> Tensor:
    """The elements at (0, 0), (1, 0), (0, 1), (1, 1) of every 2x2, joined: (N, H, W, d) -> (N, H/2, W/2, 4d)."""
    return torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=-1)


class PatchExpand(nn.Module):
    """Every element becomes 2x2 of half the channels: (N, H, W, d) -> (N, 2H, 2W, d/2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(width // 2)

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, _ = x.shape
        parts = self.expand(x).view(n, h, w, 2, 2, -1)  # channels are (row, column, channel)
        return self.norm(parts.permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, -1))


class CMSABlock(GatedMap):
    """Cross-modal spatial awareness: both modalities in one sequence, read in turn, with one state.

    Weights are shared between the modalities but for what finds low-rank step, B and C.
    """

    def __init__(self, width: int, options: Options) -> None:
        inner = options.inner(width)
        super().__init__(width, inner, options.cmsa_states)
        self.marked_parameters = options.marked_parameters
        self.norm = nn.LayerNorm(width) if options.pre_norm else nn.Identity()
        self.infrared_projection = self.scan.new_projection()
        self.visible_projection = self.scan.new_projection()
        self.visible_dt_weight = None
        if options.separate_steps:
            self.visible_dt_weight = nn.Parameter(torch.empty_like(self.scan.dt_weight))
            init_step_weight(self.visible_dt_weight)
        self.mark = nn.Linear(2 * inner, inner, bias=False) if options.marks else None

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Infrared and visible features (N, H, W, d) -> the same shapes."""
        (u_x, gate_x), (u_y, gate_y) = (self.enter(self.norm(features)) for features in (x, y))
        height, width = u_x.shape[2:]
        marked_x, marked_y = self.marked(u_x, u_y)
        sources = (marked_x, marked_y) if self.marked_parameters else (u_x, u_y)
        found_x = self.scan.find(to_sequences(sources[0]), self.infrared_projection)
        found_y = self.scan.find(to_sequences(sources[1]), self.visible_projection, self.visible_dt_weight)
        # infrared comes first in the reversed sequences as well, which are not the forward ones reversed
        sequence = interleave(to_sequences(marked_x), to_sequences(marked_y))
        scanned = self.scan(sequence, *(interleave(a, b) for a, b in zip(found_x, found_y, strict=True)))
        y_x, y_y = (from_sequences(part, height, width) for part in recover(scanned))
        return x + self.leave(y_x, gate_x), y + self.leave(y_y, gate_y)

    def marked(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both maps (N, D, H, W) with the mark of their place added, Eqs. 3 and 4."""
        if self.mark is None:
            return x, y
        both = torch.cat((x, y), dim=1).permute(0, 2, 3, 1)
        mark = self.mark(both).permute(0, 3, 1, 2)
        return x + mark, y + mark


def fusion_module(width: int, options: Options) -> nn.Module:
    """Two maps (N, H, W, d) -> fused (N, H, W, d): CMSA, or a replacement with as many parameters."""

    def cmsa() -> nn.Module:
        return PairwiseFusion(*(CMSABlock(width, options) for _ in range(options.cmsa_blocks)))

    def convolutions(hidden: int) -> nn.Module:
        return ConvFusion(width, hidden, options.cmsa_blocks)

    def attention(hidden: int) -> nn.Module:
        return PairwiseFusion(*(CrossAttention(width, hidden) for _ in range(options.cmsa_blocks)))

    def scans(hidden: int) -> nn.Module:
        return PairwiseFusion(*(CrossScan(width, hidden, options.cmsa_states) for _ in range(options.cmsa_blocks)))

    if options.fusion == "CMSA":
        return cmsa()
    if options.fusion == "ADD":
        return Addition()
    build, multiple = {"CNN": (convolutions, 1), "CA": (attention, HEADS), "FSSM": (scans, 1)}[options.fusion]
    with torch.device("meta"):
        budget = count_parameters(cmsa())
    return build(hidden_for(budget, build, multiple))


class Encoder(nn.Module):
    """Image (N, 1, H, W) -> features before each of the three levels, and those after the last one."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.embed = PatchEmbed(options.widths[0])
        self.levels = nn.ModuleList(map(partial(vss_blocks, options), options.widths, options.depths))
        self.merging = nn.ModuleList(map(PatchMerging, options.widths[:-1]))

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        before = [self.embed(image)]
        for level, merging in zip(self.levels, self.merging, strict=False):
            before.append(merging(level(before[-1])))
        return before, self.levels[-1](before[-1])


def vss_blocks(options: Options, width: int, depth: int) -> nn.Sequential:
    """VSS blocks one after the other: (N, H, W, d) -> the same shape.

    Args:
        options: sizes of the network.
        width: d, length of an element.
        depth: how many.
    """
    return nn.Sequential(*(VSSBlock(width, options.inner(width), options.states) for _ in range(depth)))


class FoldedOutput(nn.Module):
    """Elements back to overlapping patches, added up and mixed to one channel: (N, T, T', d) -> (N, 1, H, W)."""

    def __init__(self, width: int, dead_weights: bool) -> None:
        super().__init__()
        self.expand = nn.Linear(width, FOLDED * PATCH**2, bias=False)
        self.unused_norm = nn.LayerNorm(FOLDED) if dead_weights else None  # in the checkpoint, never applied
        self.mix = nn.Conv2d(FOLDED, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (STRIDE * side + PATCH - STRIDE for side in x.shape[1:3])
        patches = self.expand(x).flatten(1, 2).transpose(1, 2)  # channel, row of the patch, column of the patch
        # overlaps add up, they are not averaged
        return self.mix(functional.fold(patches, (height, width), PATCH, stride=STRIDE))


class S4Fusion(nn.Module):
    """Ma et al., S4Fusion: Saliency-aware Selective State Space Model, 2024, arXiv:2405.20881.

    Infrared and luminance of the visible image (N, 1, H, W) in [0, 1], any size -> fused (N, 1, H, W), not bounded. The
    images are surrounded by zeros up to sides of 12 k + 1, as by the authors' script, and the result is cut out again.
    """

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options = options or Options()
        self.infrared, self.visible = Encoder(options), Encoder(options)
        # from the finest scale on; with the code's wiring the first one's result is dropped
        has_first = options.wiring == "paper" or options.dead_weights or options.use_r1
        self.fusion = nn.ModuleList(
            fusion_module(width, options) if level or has_first else nn.Identity()
            for level, width in enumerate(options.widths)
        )
        # from the coarsest scale on
        self.decoder = nn.ModuleList(map(partial(vss_blocks, options), options.widths[::-1], options.depths[::-1]))
        self.expanding = nn.ModuleList(map(PatchExpand, options.widths[:0:-1]))
        self.output = FoldedOutput(options.widths[0], options.dead_weights)
        self.apply(_init_linear)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        height, width = infrared.shape[-2:]
        (top, bottom), (left, right) = (_border(side) for side in (height, width))
        a, b = (functional.pad(image, (left, right, top, bottom)) for image in (infrared, visible))
        return self.in_one_piece(a, b)[..., top : top + height, left : left + width]

    def in_one_piece(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """The network itself, for sides of 12 k + 1."""
        (before_x, last_x), (before_y, last_y) = self.infrared(infrared), self.visible(visible)
        finest = 0 if self.options.wiring == "paper" or self.options.use_r1 else 1
        fused = [self.fusion[level](before_x[level], before_y[level]) for level in range(2, finest - 1, -1)]
        return self.output(self.decode(last_x + last_y, fused))

    def decode(self, x: Tensor, fused: Sequence[Tensor]) -> Tensor:
        """Deepest features and the fused ones, from the coarsest scale on -> (N, T, T', d) of the finest scale."""
        if self.options.wiring == "paper":
            x = self.decoder[0](x + fused[0])
            for expand, blocks, r in zip(self.expanding, self.decoder[1:], fused[1:], strict=True):
                x = blocks(expand(x) + r)
        else:
            x = self.decoder[0](x)
            for expand, blocks, r in zip(self.expanding, self.decoder[1:], fused[:2], strict=True):
                x = blocks(expand(x + r))
        return x

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay should leave alone: those of the recurrence itself."""
        return {name for name, _ in self.named_parameters() if name.endswith((".A_log", ".D"))}

    def scan_flops(self, height: int, width: int) -> int:
        """Operations of all selective scans for one pair, which counters of matrix products do not see.

        Nine per time, channel and state, see `scan_flops`; those of the fusion module only where it is CMSA.
        """
        options, total = self.options, 0
        first = 0 if options.wiring == "paper" or options.use_r1 else 1
        for level, (d, depth) in enumerate(zip(options.widths, options.depths, strict=True)):
            length = (padded(height) // STRIDE >> level) * (padded(width) // STRIDE >> level)
            channels = 4 * options.inner(d)
            total += 3 * depth * scan_flops(1, length, channels, options.states)  # two encoders, one decoder
            if options.fusion == "CMSA" and level >= first:
                total += options.cmsa_blocks * scan_flops(1, 2 * length, channels, options.cmsa_states)
        return total


def _border(side: int) -> tuple[int, int]:
    """Zeros before and behind an axis."""
    more = padded(side) - side
    return more // 2, more - more // 2


def _init_linear(module: nn.Module) -> None:
    # the mark is a bare parameter in the published code, which leaves it as nn.Linear begins
    if isinstance(module, CMSABlock) and module.mark is not None:
        module.mark.reset_parameters()
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


_SIDES = {"x": "infrared", "y": "visible"}
_KEYS = {
    r"^vmunet\.": "",
    **{rf"^patch_embed_{side}\.": f"{name}.embed." for side, name in _SIDES.items()},
    **{rf"^layers_{side}\.(\d)\.blocks\.": rf"{name}.levels.\1." for side, name in _SIDES.items()},
    **{rf"^layers_{side}\.(\d)\.downsample\.": rf"{name}.merging.\1." for side, name in _SIDES.items()},
    r"^layers_up\.(\d)\.blocks\.": r"decoder.\1.",
    r"^layers_up\.1\.upsample\.": "expanding.0.",
    r"^layers_up\.2\.upsample\.": "expanding.1.",
    r"^fusion_layers\.(\d)\.layers\.": r"fusion.\1.blocks.",
    r"^final_up\.expand\.": "output.expand.",
    r"^final_up\.norm\.": "output.unused_norm.",
    r"^final_conv\.": "output.mix.",
    r"\.ln_1\.": ".norm.",
    r"\.self_attention\.": ".mix.",
    r"\.mix\.x_proj_weight$": ".mix.projection",
    r"\.x_proj_weight$": ".infrared_projection",
    r"\.y_proj_weight$": ".visible_projection",
    r"\.mark_proj$": ".mark.weight",
    r"\.dt_projs_(weight|bias)$": r".scan.dt_\1",
    r"\.A_logs$": ".scan.A_log",
    r"\.Ds$": ".scan.D",
    r"\.conv2d\.": ".conv.",
}


def _convert(content: Any, path: Path) -> State:
    return renamed(as_state(content, path, "model"), path, _KEYS)


def _unit_luminance(image: Pixels) -> Tensor:
    """Y as (1, H, W) float32 in [0, 1], not rounded in between."""
    if image.ndim == 2:
        return unit_gray(image)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return torch.from_numpy((image.astype(np.float32) / 255) @ weights).clamp(0, 1)[None]


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_gray(infrared), _unit_luminance(visible)


METHODS = {"S4Fusion": NetworkMethod(S4Fusion, _prepare, round_levels, ("model.pkl",), _convert)}
