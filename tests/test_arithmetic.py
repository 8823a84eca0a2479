"""Networks that fuse in bfloat16 or in another order of values: near to float32, never the same images, and said."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_tno

torch = pytest.importorskip("torch")

import evalkit  # noqa: E402
from evalkit.cli import main  # noqa: E402
from evalkit.data.card import load_card  # noqa: E402
from evalkit.data.pairs import find_pairs  # noqa: E402
from evalkit.errors import EvalkitError  # noqa: E402
from evalkit.leaderboards.verify import verify  # noqa: E402
from evalkit.methods.arithmetic import FLOAT32, Arithmetic  # noqa: E402
from evalkit.methods.fuse import make_fuser  # noqa: E402
from evalkit.methods.fusers import read_pair  # noqa: E402
from evalkit.methods.network import computed_in  # noqa: E402
from evalkit.methods.networks.seafusion import SeAFusion  # noqa: E402
from evalkit.methods.registry import method_card  # noqa: E402
from evalkit.records.record import load  # noqa: E402

BF16, LAYOUT = Arithmetic("bf16"), Arithmetic(channels_last=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs, and weights under the published file name."""
    home = tmp_path_factory.mktemp("home")
    make_tno(home / "data", 2)
    torch.manual_seed(0)
    torch.save(SeAFusion().state_dict(), home / "SeAFusion.pth")
    return home


def test_names() -> None:
    assert FLOAT32.name == ""
    assert Arithmetic("bf16", channels_last=True).name == "bf16, channels last"
    for one in (FLOAT32, BF16, LAYOUT, Arithmetic("tf32")):
        assert Arithmetic.named(one.name) == one
    with pytest.raises(EvalkitError, match="arithmetic 'fp8' is not known here: channels last, tf32"):
        Arithmetic.named("fp8")


def test_tf32_is_allowed_where_it_is_asked_for_and_nowhere_else() -> None:
    kinds = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [kind.allow_tf32 for kind in kinds]
    for precision, allowed in (("float32", False), ("tf32", True), ("bf16", False)):
        with computed_in(Arithmetic(precision), "cpu"):
            assert [kind.allow_tf32 for kind in kinds] == [allowed, allowed]
            assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
        assert [kind.allow_tf32 for kind in kinds] == before


def test_images_are_near_and_say_how_they_were_made(home: Path) -> None:
    pairs = find_pairs(load_card("TNO"), home / "data").pairs
    fusers = {
        one: make_fuser(method_card("SeAFusion"), home, device="cpu", arithmetic=one) for one in (FLOAT32, BF16, LAYOUT)
    }
    assert len({fuser.identity for fuser in fusers.values()}) == 3  # kept images of one are not those of another
    assert fusers[FLOAT32].identity == fusers[BF16].identity.removesuffix(", bf16")
    outputs, images = {}, {}
    for one, fuser in fusers.items():
        read = [read_pair(pair) for pair in pairs]
        run = fuser.network_method.run(fuser.network, read, "cpu", one)
        outputs[one] = torch.stack([output for output, finite in run if finite])
        images[one] = np.stack(list(fuser.fuse(pairs)))
    assert outputs[BF16].dtype == torch.float32
    for one, most in ((BF16, 0.02), (LAYOUT, 1e-5)):
        difference = (outputs[one] - outputs[FLOAT32]).abs().max()
        assert difference <= most * outputs[FLOAT32].abs().max()
    assert not np.array_equal(images[BF16], images[FLOAT32])
    again = pickle.loads(pickle.dumps(fusers[BF16]))  # noqa: S301  as a worker process does
    assert np.array_equal(next(iter(again.fuse(pairs))), images[BF16][0])


def test_records_name_it_and_are_compared_with_nothing(home: Path, tmp_path: Path) -> None:
    options = {"methods": ["SeAFusion"], "datasets": "TNO", "workers": 1, "checkpoints": home, "device": "cpu"}
    records = {}
    for precision in ("bf16", "float32"):
        table = evalkit.reproduce("smfnet-table1", home / "data", out=tmp_path, precision=precision, **options)
        assert ("SeAFusion fused in bf16, not in float32" in table.note) == (precision == "bf16")
        record = load(tmp_path / "records" / "TNO__SeAFusion.json")
        if precision == "bf16":  # it is fused again from the record, in bfloat16
            shutil.rmtree(tmp_path / "fused")
            (verdict, *_) = verify(tmp_path / "records", data_root=home / "data", checkpoints=home, remeasure=1)
            assert verdict.ok, verdict.problems
            assert "fused again" in verdict.checked
            assert not any("are other files" in note for note in verdict.notes)
        records[precision] = record.model_copy(update={"dataset": record.dataset | {"expected": 2}})
    assert records["bf16"].not_comparable == "fused in bf16, the printed values in float32"
    assert records["float32"].not_comparable == ""
    assert "arithmetic" not in records["float32"].method
    assert records["bf16"].method["fused_hash"] != records["float32"].method["fused_hash"]


def test_what_cannot_be_is_one_sentence(home: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, [*map(str, arguments)])
        return result.exit_code, " ".join(result.output.split())

    common = ["--data-root", home / "data", "--checkpoints", home, "--device", "cpu", "--out", tmp_path]
    code, output = run("fuse", "SeAFusion", "--dataset", "TNO", "--precision", "tf32", *common)
    assert code == 2
    assert "--precision tf32 is of NVIDIA GPUs" in output
    code, output = run("reproduce", "smfnet-table2", "--precision", "bf16", *common)
    assert code == 2
    assert "of tables of fused images; smfnet-table2 is not one" in output
    code, output = run("fuse", "SeAFusion", "--dataset", "TNO", "--precision", "bf16", "--workers", 1, *common)
    assert code == 0, output
    assert "computed in bf16, their authors' programs in float32" in output
