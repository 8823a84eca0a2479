"""TensorFlow's checkpoints: what is written is read, what is damaged or hostile is one sentence."""

from __future__ import annotations

import contextlib
import tracemalloc

import numpy as np
import pytest
from bundles import block, bundle, entry, header, hostile, masked_crc, table
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evalkit.files.bundles import DATA, INDEX, MAX_TENSORS, crc32c, masked, read_bundle
from evalkit.files.pickles import KindError

EXPECTED = (ValueError, KindError)
HOSTILE = hostile()
SMALL = {
    "net/layer1/w": np.arange(36, dtype=np.float32).reshape(3, 3, 2, 2),
    "net/layer1/b": np.array([1.5, -2], np.float32),
    "net/step": np.array(7, np.int64),
    "net/scale": np.array(0.1),
    "net/counts": np.array([[1], [2]], np.int32),
    "net/none": np.zeros((0, 4), np.float32),
    "é": np.ones(1, np.float32),
}


def same(read, arrays) -> None:
    assert list(read) == sorted(arrays, key=str.encode)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("per_block", [1, 3, 100])
def test_what_is_written_is_read(per_block):
    same(read_bundle(*bundle(SMALL, per_block)), SMALL)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
        st.sampled_from((np.float32, np.float64, np.int32, np.int64)).flatmap(
            lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
        ),
        max_size=12,
    ),
    st.integers(1, 6),
)
def test_whatever_is_written_is_read(written, per_block):
    same(read_bundle(*bundle(written, per_block)), written)


def test_checksums_of_the_standard():
    """RFC 3720, B.4, and the value that every description of CRC-32C gives."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(bytes(range(31, -1, -1))) == 0x113FDB5C


@pytest.mark.parametrize("size", [1, 2, 3, 255, 4097, 2**20 - 1, 2**20, 2**20 + 1, 2**21 + 77])
def test_checksums_of_any_length(size):
    data = np.random.default_rng(size).bytes(size)
    assert masked(crc32c(data)) == masked_crc(data)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused(name):
    tracemalloc.start()
    try:
        with pytest.raises(EXPECTED) as told:
            read_bundle(*HOSTILE[name])
        assert len(str(told.value)) < 300
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_too_many_tensors():
    empty = entry(np.zeros(0, np.float32), 0)
    items = [(b"", header())] + [(b"%06d" % i, empty) for i in range(MAX_TENSORS)]
    with pytest.raises(ValueError, match="too many"):
        read_bundle(table([items]), b"")


def test_every_bit_of_the_index_counts():
    index, data = bundle({"a/w": SMALL["net/layer1/w"], "a/b": SMALL["net/layer1/b"]})
    for position in range(len(index)):
        changed = bytearray(index)
        changed[position] ^= 1 << position % 8
        with pytest.raises(EXPECTED):
            read_bundle(bytes(changed), data)


def test_every_bit_of_the_data_counts():
    index, data = bundle(SMALL)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        with pytest.raises(ValueError, match="checksum of its tensor"):
            read_bundle(index, bytes(changed))


def test_every_cut_is_seen():
    index, data = bundle(SMALL)
    for end in range(len(index)):
        with pytest.raises(EXPECTED):
            read_bundle(index[:end], data)
    for end in range(len(data)):
        with pytest.raises(EXPECTED):
            read_bundle(index, data[:end])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=20))
def test_any_bytes_as_a_block(content, data):
    """With right checksums around them, so that the parser itself is met."""
    with contextlib.suppress(EXPECTED):
        read_bundle(table([[(b"", header())]], raw={0: content}), data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_as_a_description(value):
    with contextlib.suppress(EXPECTED):
        read_bundle(table([[(b"", header()), (b"a", value)]]), bytes(64))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_block_with_changes(draw):
    content = bytearray(block([(b"", header()), *((f"a/{i}".encode(), entry(np.zeros(2), 16 * i)) for i in range(4))]))
    for _ in range(draw.draw(st.integers(1, 6))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(EXPECTED):
        read_bundle(table([[(b"", header())]], raw={0: bytes(content)}), bytes(64))


# --- as a file of weights


def write(folder, arrays, prefix="model.ckpt"):
    index, data = bundle(arrays)
    (folder / f"{prefix}{INDEX}").write_bytes(index)
    (folder / f"{prefix}{DATA}").write_bytes(data)
    return folder / f"{prefix}{INDEX}"


def test_a_checkpoint_becomes_tensors(tmp_path):
    torch = pytest.importorskip("torch")
    from evalkit.methods.checkpoints import read_checkpoint

    state = read_checkpoint(write(tmp_path, SMALL))
    for name, array in SMALL.items():
        assert torch.equal(state[name], torch.from_numpy(np.array(array)))
    state["net/layer1/b"] += 1  # of its own memory
    assert read_checkpoint(tmp_path / "model.ckpt.index")["net/layer1/b"][0] == 1.5


def test_each_half_alone_says_what_is_missing(tmp_path):
    pytest.importorskip("torch")
    from evalkit.errors import CheckpointError
    from evalkit.methods.checkpoints import read_checkpoint

    path = write(tmp_path, SMALL)
    (tmp_path / "w.pth").write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match=r"name its \.index"):
        read_checkpoint(tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"the data of a TensorFlow checkpoint: name model\.ckpt\.index"):
        read_checkpoint(tmp_path / f"model.ckpt{DATA}")
    with pytest.raises(CheckpointError, match=r"prefix of a TensorFlow checkpoint \(model\.ckpt\.index\)"):
        read_checkpoint(tmp_path / "model.ckpt")
    (tmp_path / f"model.ckpt{DATA}").unlink()
    with pytest.raises(CheckpointError, match=r"put its model\.ckpt\.data-00000-of-00001 beside it"):
        read_checkpoint(path)


BUNDLES = {  # values of each published one, specs/tf_checkpoints.md
    "U2Fusion/model.ckpt": 659_217,
    "PMGI-IR_VI/CGAN.model-1": 42_401,
    "PMGI-Medical/CGAN.model-29": 42_401,
    "SDNet-IR_VIS/IRVIS.model-10": 67_091,
    "SDNet-Medical/Medical.model-29": 67_091,
    "STDFusionNet/Fusion.model-29": 282_513,
    "MURF-RGB-IR/0000.ckpt": 116_123,
    "MURF-PET-MRI/0000.ckpt": 264_477,
}


@pytest.mark.parametrize("prefix", BUNDLES)
def test_published_bundles(shared, prefix):
    path = shared / "checkpoints" / prefix
    index, data = (path.with_name(path.name + end).read_bytes() for end in (INDEX, DATA))
    read = read_bundle(index, data)
    assert sum(array.size for array in read.values()) == BUNDLES[prefix]
    assert all(np.isfinite(array).all() for array in read.values())
    with pytest.raises(ValueError, match="checksum"):
        read_bundle(index, data[:-1] + bytes([data[-1] ^ 1]))
