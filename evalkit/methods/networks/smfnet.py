"""SMFNet: base, detail and graph features of both images, first learned by rebuilding each image, then fused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from evalkit.data.images import luminance, merge_levels
from evalkit.methods.checkpoints import CheckpointError, State, as_state
from evalkit.methods.layers.enhanced import CrossChannelAttention, GradientResidualDense, enhanced_block, full_block
from evalkit.methods.layers.graph import EdgeLayout, GraphReasoning, conv_norm_relu
from evalkit.methods.layers.invertible import ClampedCoupling, InvertibleNode
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import stretched
from evalkit.methods.layers.restormer import PUBLISHED_KEYS, ChannelNorm
from evalkit.methods.network import NetworkMethod, Pixels, rounded, unit_gray


@dataclass(frozen=True)
class Options:
    """Sizes of SMFNet, and what paper, published code and ablations do differently.

    The defaults are the published code but for `edge_layout` and the layers that it never runs. What the paper prints
    only loosely follows the code without an option: Eqs. 6 and 7 (three functions, the second half first), Eqs. 19 and
    20 (one half after the other), Pool in Eq. 13 (none).

    Attributes:
        width: channels of all features, a multiple of twice `heads`.
        heads: of every attention.
        base_blocks: blocks of the base branch.
        bottleneck: channels between the convolutions that end such a block.
        dilations: one graph node per modality each.
        edge_layout: "block" is Eq. 15 and for training, "interleaved" for the authors' weights; see
            `IntraModalityGraph`.
        graph_residual: nodes become h + gamma * GRU, gamma starting at 0 (code), else the GRU's output (Eq. 16).
        base_first_conv: the base branch begins with a convolution (code), else with the shallow features (Eq. 9).
        cross_norm: the cross attention normalises its inputs (paper's text), or not (code).
        trainable_sobel: training may change the Sobel weights (code), or not (paper's operator).
        dead_layers: also hold the 498,720 values that the code declares and never uses.
        detail: "cai" as proposed; "inn" is one invertible node and nothing else (AE1).
        base_residual: blocks of the base branch end with convolutions and add their input; else only their
            transformers are left, one behind the other (AE2).
        graph: there is a graph branch (not in AE3).
        swap_fusion: the layer for detail features fuses the base features and the reverse (AE4).
    """

    width: int = 64
    heads: int = 8
    base_blocks: int = 2
    bottleneck: int = 16
    dilations: tuple[int, ...] = (4, 8, 16)
    edge_layout: EdgeLayout = "block"
    graph_residual: bool = True
    base_first_conv: bool = True
    cross_norm: bool = False
    trainable_sobel: bool = True
    dead_layers: bool = False
    detail: Literal["cai", "inn"] = "cai"
    base_residual: bool = True
    graph: bool = True
    swap_fusion: bool = False


SMALL = Options(width=16, heads=4, base_blocks=1, bottleneck=4, dilations=(2, 4, 8))  # to train without a GPU


class Features(NamedTuple):
    """What is known of one image, each (N, width, H, W); no graph features without a graph branch."""

    base: Tensor
    detail: Tensor
    graph: Tensor | None


class Reconstruction(NamedTuple):
    """Output of stage I: both images rebuilt from their own features, (N, 1, H, W) in (0, 1) (Eq. 21)."""

    infrared: Tensor
    visible: Tensor
    infrared_features: Features
    visible_features: Features


class Fusion(NamedTuple):
    """Output of stage II: the fused image, (N, 1, H, W) in (0, 1) (Eq. 22), and what it was made of."""

    fused: Tensor
    infrared_features: Features
    visible_features: Features


def three_convs(width: int, bottleneck: int) -> nn.Sequential:
    """3x3, 1x1 and 3x3 convolution through few channels: (N, width, H, W) -> the same shape."""
    return nn.Sequential(
        nn.Conv2d(width, bottleneck, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(bottleneck, bottleneck, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(bottleneck, width, 3, padding=1),
    )


class BaseBlock(nn.Module):
    """Twice two transformers and, with `base_residual`, convolutions and the input (Eqs. 10, 11): the shape stays."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        kinds = (enhanced_block, full_block) * 2
        self.transformers = nn.Sequential(*(kind(options.width, options.heads) for kind in kinds))
        self.convs = three_convs(options.width, options.bottleneck) if options.base_residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.transformers(x)
        return y if self.convs is None else x + self.convs(y)


class BaseBranch(nn.Sequential):
    """Shallow -> base features (BFE, Eqs. 8-11), both (N, width, H, W)."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        if options.base_first_conv:
            self.first = nn.Conv2d(options.width, options.width, 3, padding=1)
        self.blocks = nn.Sequential(*(BaseBlock(options) for _ in range(options.base_blocks)))


class CrossInvertible(nn.Module):
    """Shallow -> detail features (CAI, Eqs. 2-7), both (N, width, H, W); sides of at least 2."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.gradient = GradientResidualDense(options.width, options.trainable_sobel)
        self.cross = CrossChannelAttention(options.width // 2, options.heads, options.cross_norm)
        self.node = InvertibleNode(options.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.node(torch.cat(self.exchange(*self.gradient(x).chunk(2, dim=1)), dim=1))

    def exchange(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Halves -> halves, each with the queries of the other; one attention serves both (Eqs. 4, 5)."""
        return self.cross(second, first), self.cross(first, second)


class Encoder(nn.Module):
    """Image (N, 1, H, W) in [0, 1] -> shallow, base and detail features, each (N, width, H, W)."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        # the paper's "depthwise 3x3" is this convolution: there is one channel in
        self.embed = nn.Conv2d(1, options.width, 3, padding=1, bias=False)
        self.shallow = enhanced_block(options.width, options.heads)
        self.base = BaseBranch(options)
        self.detail: nn.Module = CrossInvertible(options) if options.detail == "cai" else InvertibleNode(options.width)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shallow = self.shallow(self.embed(image))
        return shallow, self.base(shallow), self.detail(shallow)


def detail_fusion(options: Options) -> nn.Sequential:
    """Sum of two detail features -> fused ones (Eqs. 19, 20), (N, width, H, W); sides of at least 2."""
    return nn.Sequential(
        GradientResidualDense(options.width, options.trainable_sobel),
        ClampedCoupling(options.width),
        ClampedCoupling(options.width),
    )


def decoder(options: Options) -> nn.Sequential:
    """Sum of the features (N, width, H, W) -> image (N, 1, H, W) in (0, 1)."""
    half, quarter = options.width // 2, options.width // 4
    return nn.Sequential(
        enhanced_block(options.width, options.heads),
        nn.Conv2d(options.width, half, 3, padding=1, bias=False),
        nn.LeakyReLU(0.01),
        nn.Conv2d(half, quarter, 3, padding=1, bias=False),
        nn.LeakyReLU(0.01),
        nn.Conv2d(quarter, 1, 3, padding=1, bias=False),
        nn.Sigmoid(),
    )


def dead_layers(options: Options) -> nn.ModuleDict:
    """What the published code declares and never runs; its checkpoint holds it."""
    width = options.width
    gate = partial(nn.Conv2d, kernel_size=1, bias=False)
    return nn.ModuleDict(
        {
            "base_join": gate(2 * width, width),
            "base_norm": ChannelNorm(width),
            "base_convs": three_convs(width, options.bottleneck),
            "fuse_base_join": gate(2 * width, width),
            "node_gates": nn.ModuleList(
                nn.Sequential(gate(2 * width, width // 2), gate(width // 2, width)) for _ in range(2)
            ),
            "read_outs": nn.ModuleList(conv_norm_relu(len(options.dilations) * width, width) for _ in range(4)),
            "graph_join": nn.Conv2d(2 * width, width, 1),
        }
    )


class SMFNet(nn.Module):
    """Zhang et al., A Semantic-Aware and Multi-Guided Network for Infrared-Visible Image Fusion, arXiv:2407.06159.

    Two gray images (N, 1, H, W) in [0, 1], sides of at least 2, nothing is padded -> fused (N, 1, H, W) in (0, 1). All
    features have the size of the images.

    Stage I (`reconstruct`) trains encoder, graph and decoder on rebuilding each image; stage II (`fuse`, which
    `forward` runs) adds two fusion layers and trains all.
    """

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options = options or Options()
        self.encoder = Encoder(options)
        self.graph = (
            GraphReasoning(
                options.width, options.dilations, layout=options.edge_layout, residual=options.graph_residual
            )
            if options.graph
            else None
        )
        self.fuse_base = enhanced_block(options.width, options.heads)
        self.fuse_detail = detail_fusion(options)
        self.decoder = decoder(options)
        if options.dead_layers:
            self.unused = dead_layers(options)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """As `fuse`, branch by branch, so that what one of them needs is gone when the next one begins."""
        encoder = self.encoder
        shallow = [encoder.shallow(encoder.embed(image)) for image in (infrared, visible)]
        layers: tuple[nn.Module, nn.Module] = (self.fuse_base, self.fuse_detail)
        fuse_base, fuse_detail = reversed(layers) if self.options.swap_fusion else layers
        total = fuse_detail(encoder.detail(shallow[0]) + encoder.detail(shallow[1]))
        total = total + fuse_base(encoder.base(shallow[0]) + encoder.base(shallow[1]))
        if self.graph is not None:
            total = total + self.graph.fuse(*self.graph(*shallow))
        del shallow
        return self.decoder(total)

    def features(self, infrared: Tensor, visible: Tensor) -> tuple[Features, Features]:
        """Features of both images; those of the graph depend on both."""
        shallow_i, base_i, detail_i = self.encoder(infrared)
        shallow_v, base_v, detail_v = self.encoder(visible)
        graph_i, graph_v = (None, None) if self.graph is None else self.graph(shallow_i, shallow_v)
        return Features(base_i, detail_i, graph_i), Features(base_v, detail_v, graph_v)

    def reconstruct(self, infrared: Tensor, visible: Tensor) -> Reconstruction:
        """Stage I."""
        of_infrared, of_visible = self.features(infrared, visible)
        return Reconstruction(self.decode(of_infrared), self.decode(of_visible), of_infrared, of_visible)

    def fuse(self, infrared: Tensor, visible: Tensor) -> Fusion:
        """Stage II."""
        a, b = self.features(infrared, visible)
        layers: tuple[nn.Module, nn.Module] = (self.fuse_base, self.fuse_detail)
        fuse_base, fuse_detail = reversed(layers) if self.options.swap_fusion else layers
        graph = None
        if self.graph is not None and a.graph is not None and b.graph is not None:
            graph = self.graph.fuse(a.graph, b.graph)
        fused = Features(fuse_base(a.base + b.base), fuse_detail(a.detail + b.detail), graph)
        return Fusion(self.decode(fused), a, b)

    def decode(self, features: Features) -> Tensor:
        """Features -> image: the branches are added, not concatenated."""
        total = features.detail + features.base
        return self.decoder(total if features.graph is None else total + features.graph)

    def parts(self, stage: int) -> dict[str, nn.Module]:
        """The modules that stage 1 or 2 optimises, each with an optimiser of its own.

        In stage 1 `graph.join` gets no gradient: only the fused image needs it.
        """
        names = ("encoder", "graph", "decoder", *(("fuse_base", "fuse_detail") if stage == 2 else ()))
        return {name: part for name, part in self.named_children() if name in names}


_NODE_KEYS = {
    r"\.shffleconv\.": ".shuffle.",
    r"\.(?:theta_)?(phi|rho|eta|[ryfp])\.bottleneckBlock\.0\.": r".\1.0.",
    # the authors pad in a module of its own, so their numbers behind it are one higher
    r"\.(?:theta_)?(phi|rho|eta|[ryfp])\.bottleneckBlock\.3\.": r".\1.2.",
    r"\.(?:theta_)?(phi|rho|eta|[ryfp])\.bottleneckBlock\.5\.": r".\1.4.",
}
_GRADIENT_KEYS = {
    r"\.conv\.conv\.": ".first.",
    r"\.GRDB\.dense\.conv1\.conv\.": ".dense.convs.0.",
    r"\.GRDB\.dense\.conv2\.conv\.": ".dense.convs.1.",
    r"\.GRDB\.convdown\.conv\.": ".dense_out.",
    r"\.GRDB\.sobelconv\.conv([xy])\.": r".sobel.\1.",
    r"\.GRDB\.convup\.conv\.": ".sobel_out.",
}
_ENHANCED_KEYS = {
    r"\.(ffn_leff|mlp)\.linear1\.0\.": ".feed_forward.expand.",
    r"\.(ffn_leff|mlp)\.dwconv\.0\.": ".feed_forward.mix.",
    r"\.(ffn_leff|mlp)\.linear2\.0\.": ".feed_forward.out.",
}
_GRAPH_KEYS = {
    r"^graph\.graph\.C_ca\.(\d)\.1\.": r"unused.node_gates.\1.0.",
    r"^graph\.graph\.C_ca\.(\d)\.3\.": r"unused.node_gates.\1.1.",
    r"^graph\.C_cls\.": "unused.graph_join.",
    r"^graph\.C_cat\.0\.": "graph.infrared.read_out.",
    r"^graph\.C_cat\.1\.": "graph.visible.read_out.",
    r"^graph\.graph\.C_pa\.0\.": "graph.cross.to_second.",
    r"^graph\.graph\.C_pa\.1\.": "graph.cross.to_first.",
    # the code calls the first image RGB and the second depth, and puts the infrared one first
    r"^graph\.graph\.ppm_rgb\.convs\.": "graph.infrared.nodes.",
    r"^graph\.graph\.ppm_dep\.convs\.": "graph.visible.nodes.",
    r"^graph\.graph\.graph_rgb\.": "graph.infrared.reasoning.",
    r"^graph\.graph\.graph_dep\.": "graph.visible.reasoning.",
    r"\.C_wgt\.": ".edges.",
    r"\.ConvGRU\.ConvGates\.": ".gru.gates.",
    r"\.ConvGRU\.Conv_ct\.": ".gru.candidate.",
    r"^C_cls\.": "graph.join.",
} | {rf"^graph\.C_cat\.{i}\.": f"unused.read_outs.{i - 2}." for i in range(2, 6)}
_PARTS = {  # entry of the checkpoint -> the names outside the blocks
    "DIDF_Encoder": {
        r"^patch_embed\.proj\.": "encoder.embed.",
        r"^encoder_level1\.0\.": "encoder.shallow.",
        r"^baseFeature\.reduce_channel\.": "unused.base_join.",
        r"^baseFeature\.norm\.": "unused.base_norm.",
        r"^baseFeature\.conv_after_body\.": "unused.base_convs.",
        r"^baseFeature\.conv_first\.": "encoder.base.first.",
        r"^baseFeature\.layers\.(\d)\.conv\.": r"encoder.base.blocks.\1.convs.",
        r"^baseFeature\.layers\.(\d)\.residual_group\.0\.": r"encoder.base.blocks.\1.transformers.",
        # two of two in the code, four in a row here
        r"^baseFeature\.layers\.(\d)\.residual_group\.1\.0\.": r"encoder.base.blocks.\1.transformers.2.",
        r"^baseFeature\.layers\.(\d)\.residual_group\.1\.1\.": r"encoder.base.blocks.\1.transformers.3.",
        r"^detailFeature\.TCA\.([qkv]+)_dwconv\.": r"encoder.detail.cross.\1_mix.",
        r"^detailFeature\.TCA\.project_out\.": "encoder.detail.cross.out.",
        r"^detailFeature\.TCA\.": "encoder.detail.cross.",
        r"^detailFeature\.layer\.": "encoder.detail.node.",
        r"^GRDB_module\.": "encoder.detail.gradient.",
    },
    "DIDF_Decoder": {
        r"^encoder_level1\.0\.": "decoder.0.",
        r"^output\.0\.": "decoder.1.",
        r"^output\.2\.": "decoder.3.",
        r"^output\.4\.": "decoder.5.",
    },
    "BaseFuseLayer": {r"^reduce_channel\.": "unused.fuse_base_join.", r"^(?!unused\.)": "fuse_base."},
    "DetailFuseLayer": {r"^GRDB\.": "fuse_detail.0.", r"^net\.0\.": "fuse_detail.1.", r"^net\.1\.": "fuse_detail.2."},
    "GraphModel": _GRAPH_KEYS,
}
_BLOCK_KEYS = _NODE_KEYS | _GRADIENT_KEYS | _ENHANCED_KEYS | PUBLISHED_KEYS


def convert(content: Any, path: Path, dead_layers: bool = False) -> State:
    """The authors' checkpoint as the state of a `SMFNet`, with or without the layers that it never runs.

    Args:
        content: what the file holds.
        path: of the file, for messages.
        dead_layers: keep the layers that are never run.

    Raises:
        CheckpointError: the file is of another network.
    """
    state: State = {}
    for part, names in _PARTS.items():
        # DataParallel, in which the authors wrap every part, puts a name before all others
        bare = renamed(as_state(content, path, part), path, {r"^module\.": ""})
        own = renamed(bare, path, names | _BLOCK_KEYS)
        if twice := own.keys() & state.keys():
            raise CheckpointError(f"the checkpoint {path} holds {min(twice)} in two parts.")
        state |= own
    return {key: value for key, value in state.items() if dead_layers or not key.startswith("unused.")}


def finish(output: Tensor, infrared: Pixels, visible: Pixels, minmax: bool = True) -> Pixels:
    """Fused luminance, stretched to 0..255 with `minmax` as in the published results, with the visible image's chroma.

    Without `minmax` the sigmoid's 0..1 becomes 0..255. Colour is rounded once, at the end, as the authors' script does.

    Args:
        output: (1, H, W), in 0..1.
        infrared, visible: the pair as stored.
        minmax: stretch the luminance to 0..255.
    """
    values = output[0].numpy()
    levels = (stretched(values) if minmax else values) * 255
    return rounded(levels) if visible.ndim == 2 else merge_levels(levels, visible)


def prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """Gray of both in [0, 1], (1, H, W) float32; a colour image's luminance is not rounded."""
    return unit_gray(infrared), unit_gray(visible if visible.ndim == 2 else luminance(visible))


_build: Callable[[], SMFNet] = partial(SMFNet, replace(Options(), edge_layout="interleaved"))
METHODS = {"SMFNet": NetworkMethod(_build, prepare, finish, ("model_VIF.pth",), convert, ("encoder",), revision=1)}
