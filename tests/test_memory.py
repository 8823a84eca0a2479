"""Memory that runs out: every image comes out, and it is the one that enough memory would have given."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from evalkit.errors import ImageError, is_out_of_memory  # noqa: E402
from evalkit.methods.layers import strips, windows  # noqa: E402
from evalkit.methods.memory import MemoryCounter, inference_memory  # noqa: E402
from evalkit.methods.network import NetworkMethod  # noqa: E402
from evalkit.methods.network_fuser import NetworkFuser  # noqa: E402
from evalkit.methods.networks.cddfuse import CDDFuse  # noqa: E402
from evalkit.methods.networks.divfusion import DIVFusion  # noqa: E402
from evalkit.methods.networks.msgfusion import MsgFusion  # noqa: E402
from evalkit.methods.networks.smfnet import SMALL, SMFNet  # noqa: E402
from evalkit.methods.networks.swinfusion import SwinFusion  # noqa: E402
from evalkit.methods.networks.tsjnet import Sizes, TSJNet  # noqa: E402
from evalkit.methods.registry import METHODS, method_cards  # noqa: E402
from evalkit.methods.tiling import Part, in_parts  # noqa: E402

ERRORS = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "processor": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
    "linux": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: Error code 12 (Cannot allocate memory)"),
    "python": MemoryError,
}
NETWORKS = {name: METHODS[name].network for name, card in method_cards().items() if card.module}
BOUNDED = [name for name, network in NETWORKS.items() if network().reach is not None]


class Tight(torch.nn.Module):
    """A network on a machine that does not hold more pixels than these at once."""

    def __init__(self, network: torch.nn.Module, pixels: int, error: Callable[[], BaseException]) -> None:
        super().__init__()
        self.network, self.pixels, self.error = network, pixels, error
        self.held: list[tuple[int, ...]] = []

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        n, _, height, width = inputs[0].shape
        self.held.append((n, height, width))
        if n * height * width > self.pixels:
            raise self.error()
        return self.network(*inputs)


def images(count: int, height: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    return [tuple(random.integers(0, 256, (2, height, width), np.uint8)) for _ in range(count)]


def fuser_of(name: str, pixels: int, error: str = "gpu") -> tuple[NetworkFuser, list]:
    """A fuser with random weights on a tight machine, and what was asked of it."""
    method: NetworkMethod = NETWORKS[name]()
    torch.manual_seed(0)
    fuser = NetworkFuser(name, replace(method, convert=lambda *_: dict(method.build().state_dict())), {}, [], "cpu")
    fuser.network = Tight(fuser.network, pixels, ERRORS[error])
    return fuser, fuser.network.held


@pytest.mark.parametrize("error", ERRORS)
def test_a_group_is_halved_and_every_image_comes_out(error: str, caplog: pytest.LogCaptureFixture) -> None:
    pairs = images(8, 24, 32)
    fuser, held = fuser_of("IFCNN", 24 * 32 * 3, error)
    with caplog.at_level(logging.WARNING, "evalkit"):
        fused = list(fuser._fuse_group(pairs)) + list(fuser._fuse_group(pairs))
    assert [n for n, *_ in held] == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2], "what did not fit once is not tried again"
    assert "8 pairs at once: 4 are fused at a time" in caplog.text
    assert "4 pairs at once: 2 are fused at a time" in caplog.text
    fuser, _ = fuser_of("IFCNN", 10**6)
    for image, pair in zip(fused, pairs * 2, strict=True):
        (alone,) = fuser._fuse_group([pair])
        assert np.array_equal(image, alone)


def test_halves_then_parts(caplog: pytest.LogCaptureFixture) -> None:
    pairs = images(3, 40, 64)
    fuser, _ = fuser_of("SeAFusion", 40 * 64 - 1)
    with caplog.at_level(logging.WARNING, "evalkit"):
        fused = list(fuser._fuse_group(pairs))
    assert "does not hold a pair of 64x40: it is fused in 2 parts that overlap" in caplog.text
    assert caplog.text.count("64x40") == 1, "said once"
    fuser, _ = fuser_of("SeAFusion", 10**6)
    for image, whole in zip(fused, fuser._fuse_group(pairs), strict=True):
        assert np.abs(image.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("name", BOUNDED)
def test_parts_give_the_whole(name: str) -> None:
    """And the reach is the right one: it is not known to the whole image."""
    method: NetworkMethod = NETWORKS[name]()
    reach, step = method.reach, method.step
    assert reach is not None
    torch.manual_seed(0)
    network = method.build().eval()
    height, width = 2 * reach + 20, 4 * reach + 45
    inputs = [tensor[None] for tensor in method.prepare(*images(1, height, width)[0])]
    with torch.inference_mode():
        whole = network(*inputs)
        tight = Tight(network, height * width - 1, ERRORS["gpu"])
        parts, count = in_parts(tight, inputs, reach, step)
        assert count >= 2
        assert whole.shape == parts.shape
        assert (whole - parts).abs().max() <= 1e-6 * max(1, float(whole.abs().max()))
        broken = [x.clone() for x in inputs]
        row, column = height // 2, width // 2
        for x in broken:
            x[..., row, column] = torch.nan
        seen = torch.isnan(network(*broken)).any(dim=1)[0].nonzero()
    assert len(seen)
    farthest = max((seen[:, 0] - row).abs().max(), (seen[:, 1] - column).abs().max())
    assert farthest <= reach


def test_a_network_that_looks_at_the_whole_image_is_not_cut() -> None:
    fuser, held = fuser_of("PMGI", 100)
    (failure,) = fuser._fuse_group(images(1, 24, 32))
    assert isinstance(failure, ImageError)
    assert "32x24 is too large for the memory, and PMGI looks at the whole image at once" in str(failure)
    assert len(held) == 1


def test_parts_that_are_too_large_as_well() -> None:
    fuser, _ = fuser_of("IFCNN", 100)
    (failure,) = fuser._fuse_group(images(1, 40, 60))
    assert isinstance(failure, ImageError)
    assert "nor in parts: CUDA out of memory" in str(failure)


def test_another_error_is_not_taken_for_memory() -> None:
    assert not is_out_of_memory(RuntimeError("Padding size should be less than the corresponding input dimension"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shape"):
        in_parts(lambda x: (_ for _ in ()).throw(RuntimeError("shape")), [torch.zeros(1, 1, 64, 64)], 2, 1)


@pytest.mark.parametrize("step", [1, 8])
def test_parts_begin_at_multiples_and_keep_their_border(step: int) -> None:
    first, second = Part(0, 50, 0, 90).halves(step)
    assert (first.right, second.left) == (second.left, first.right)
    assert second.left % step == 0
    wide = second.widened(5, step, 50, 90)
    assert wide.left % step == 0
    assert wide.left <= second.left - 5
    assert (wide.top, wide.bottom, wide.right) == (0, 50, 90)


def test_the_counter_counts_what_lives() -> None:
    with MemoryCounter() as counter:
        x = torch.empty(1000, device="meta")
        y = x + 1
        del x
        z = y * 2
        del y, z
    assert counter.peak == 8000
    assert counter.now == 0
    assert "(1000,)" in counter.largest


IN_STRIPS = {
    "SMFNet": (lambda: SMFNet(SMALL), 1, 2),
    "CDDFuse": (CDDFuse, 1, 2),
    "TSJNet": (lambda: TSJNet(Sizes((4, 4, 8), 4, 16, (1,), 1), pad_small=True), 1, 2),
    "SwinFusion": (SwinFusion, 1, 2),
    "MsgFusion": (lambda: MsgFusion(width=8), 3, 3),
    "DIVFusion": (DIVFusion, 1, 2),
}


@pytest.mark.parametrize("name", IN_STRIPS)
def test_strips_give_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large maps are computed by strips of rows, and windows a few at a time."""
    build, channels, count = IN_STRIPS[name]
    torch.manual_seed(0)
    network = build().eval()
    inputs = [torch.rand(1, channels, 52, 32) for _ in range(count)]
    before = [x.clone() for x in inputs]
    with torch.inference_mode():
        whole = network(*inputs)
        monkeypatch.setattr(strips, "LARGE", 1)
        monkeypatch.setattr(strips, "STRIP", 12 * 32)
        monkeypatch.setattr(windows, "TOGETHER", 5)
        in_strips = network(*inputs)
    assert (whole - in_strips).abs().max() <= 1e-6
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))


def test_strips_keep_their_border_and_gradients_see_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "LARGE", 1)
    monkeypatch.setattr(strips, "STRIP", 8 * 16)
    conv = torch.nn.Conv2d(1, 2, 7, padding=3)
    x = torch.rand(2, 1, 37, 16)
    heights = []

    def noted(rows: torch.Tensor) -> torch.Tensor:
        heights.append(rows.shape[2])
        return conv(rows)

    whole = strips.by_strips(noted, x, border=3)
    assert heights == [37], "a gradient may be asked for"
    with torch.no_grad():
        torch.testing.assert_close(strips.by_strips(noted, x, border=3), whole)
    assert max(heights[1:]) < 37


@pytest.mark.parametrize("name", ["CDDFuse", "MsgFusion"])
def test_a_pair_of_1280x1024_needs_less_than_6_gib(name: str) -> None:
    assert inference_memory(NETWORKS[name](), 1024, 1280) < 6 * 2**30


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"CDDFuse", "MsgFusion", "DDFM"}))
def test_a_pair_of_1280x1024_needs_less_than_6_gib_in_every_network(name: str) -> None:
    """All but DDFM, whose U-Net holds the features of half its depth for the other half."""
    assert inference_memory(NETWORKS[name](), 1024, 1280) < 6 * 2**30
