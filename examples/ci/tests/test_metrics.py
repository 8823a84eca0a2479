"""The same check in pytest, for those who have tests already."""

from pathlib import Path

from fusion import fuse_folder

HERE = Path(__file__).parent


def test_metrics_have_not_moved(evalkit_check, tmp_path):
    fuse_folder(HERE / "pairs/ir", HERE / "pairs/vi", tmp_path)
    evalkit_check("golden.csv", tmp_path, "pairs/ir", "pairs/vi")
