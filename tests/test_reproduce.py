"""The main job, end to end: published rows, missing values, resuming, and what a user can get wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_outputs, make_tno, textured
from PIL import Image

import evalkit
from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.protocols.schema import protocol, published_values
from evalkit.protocols.table.cells import agreement

METRICS = ["EN", "SD", "SF", "MI", "VIF", "Qabf", "AG", "SSIM"]


def run(*arguments: object):
    """Exit code, standard output, standard error; a traceback fails the test."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def reproduce(root: Path, out: Path, *more: object):
    return run("reproduce", "smfnet-table1", "--data-root", root, "--out", out, "--datasets", "TNO", *more)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- the published table


def test_published_values_are_whole():
    chosen = protocol("smfnet-table1")
    published = published_values(chosen)
    assert len(published) == 12 * 3 * 8
    assert set(published) == {(d, m, x) for d in chosen.datasets for m in chosen.methods for x in chosen.metrics}
    assert published["RoadScene", "SMFNet", "SSIM"].printed == "1.3300"
    assert published["MSRS", "U2Fusion", "Qabf"].printed == "0.315"
    assert published["TNO", "CDDFuse", "SD"].value == 46.001


def test_published_rows_of_cddfuse_come_out(shared, tmp_path):
    code, out, _ = run(
        "reproduce", "smfnet-table1", "--data-root", shared / "data", "--outputs", shared / "outputs", "--out", tmp_path
    )
    assert code == 3
    frame = evalkit.read_table(tmp_path).frame
    measured = frame[frame.method.eq("CDDFuse") & frame.dataset.isin(["TNO", "RoadScene"])]
    assert len(measured) == 16
    for row in measured.itertuples():
        assert abs(row.difference) <= (0.005 if row.metric == "SD" else 0.0006), row
        assert row.status in ("equal", "close")
        assert row.images == {"TNO": 25, "RoadScene": 50}[row.dataset]
    missing = frame.drop(measured.index)
    assert len(missing) == 288 - 16
    assert missing.status.eq("missing").all()
    assert missing.reason.ne("").all()
    assert missing.value.isna().all()
    assert "16 of 288 cells measured" in out


def test_agreement_is_judged_by_the_printed_digits():
    assert agreement(46.00256847, "46.001") == "close"
    assert agreement(2.18609, "2.1861") == "equal"
    assert agreement(0.59294, "0.593") == "equal"
    assert agreement(0.5924, "0.593") == "differs"
    assert agreement(1.3300, "0.9554") == "differs"


# --- runs on generated pairs


def test_table_of_classical_methods(tmp_path):
    root = make_tno(tmp_path / "data")
    code, out, _ = reproduce(root, tmp_path / "run", "--methods", "average,MAXIMUM,laplacian")
    assert code == 0, out
    table = evalkit.read_table(tmp_path / "run")
    assert table.complete
    for method in ("average", "maximum", "laplacian"):
        files = sorted((tmp_path / "run" / "fused" / method / "TNO").glob("*.png"))
        assert len(files) == 25
        folder = evalkit.evaluate_folder(files[0].parent, root / "TNO" / "ir", root / "TNO" / "vi", METRICS, "smfnet")
        for metric in METRICS:
            assert table.cell("TNO", method, metric).value == pytest.approx(folder[metric].mean(), rel=1e-12)
    record = json.loads((tmp_path / "run" / "records" / "TNO__average.json").read_text())
    assert record["status"] == "complete"
    assert record["dataset"]["pairs"] == 25
    assert record["convention"] == "smfnet"
    assert record["provenance"]["packages"]["numpy"] == np.__version__
    assert not list((tmp_path / "run").rglob("*.part*"))


def test_a_second_run_measures_nothing(tmp_path, monkeypatch):
    root = make_tno(tmp_path / "data")
    assert reproduce(root, tmp_path / "run", "--methods", "average,laplacian")[0] == 0
    before = tree(tmp_path / "run")

    def never(*_, **__):
        raise AssertionError("measured or fused again")

    monkeypatch.setattr("evalkit.metrics.jobs.measure_job", never)
    monkeypatch.setattr("evalkit.methods.fuse.fuse_unit", never)
    assert reproduce(root, tmp_path / "run", "--methods", "average,laplacian", "--workers", 1)[0] == 0
    assert tree(tmp_path / "run") == before


def test_only_what_changed_is_measured_again(tmp_path, monkeypatch):
    root, outputs = make_tno(tmp_path / "data"), make_outputs(tmp_path / "outputs")
    more = ["--methods", "CDDFuse,average", "--outputs", outputs]
    reproduce(root, tmp_path / "run", *more)
    write_png(outputs / "CDDFuse" / "TNO" / "03.png", textured(77))  # a new fused image
    write_png(root / "TNO" / "ir" / "05.png", textured(78))  # a new source: every method's score of it is old
    from evalkit.metrics import jobs

    seen = []
    real = jobs.measure_job
    monkeypatch.setattr(jobs, "measure_job", lambda job, *more: seen.append(job) or real(job, *more))
    code, *_ = reproduce(root, tmp_path / "run", *more, "--workers", 1)
    assert code == 0
    assert [(job.stem, sorted(job.fused)) for job in seen] == [("03", ["CDDFuse"]), ("05", ["CDDFuse", "average"])]
    fresh = tmp_path / "fresh"
    reproduce(root, fresh, *more)
    assert tree(fresh / "scores") == tree(tmp_path / "run" / "scores")
    assert tree(fresh / "fused") == tree(tmp_path / "run" / "fused")


def test_existing_replace_and_fail(tmp_path):
    root = make_tno(tmp_path / "data")
    reproduce(root, tmp_path / "run", "--methods", "average")
    scores = tmp_path / "run" / "scores" / "TNO" / "average.csv"
    good = scores.read_bytes()
    scores.write_bytes(good.replace(b"6.", b"9."))  # an edited number is not noticed by reuse, replace mends it
    code, _, error = reproduce(root, tmp_path / "run", "--methods", "average", "--existing", "fail")
    assert code == 2
    assert "not empty" in error
    assert reproduce(root, tmp_path / "run", "--methods", "average", "--existing", "replace")[0] == 0
    assert scores.read_bytes() == good


def test_same_bytes_for_any_number_of_workers(tmp_path):
    root = make_tno(tmp_path / "data", 25)
    for workers in (1, 3):
        reproduce(root, tmp_path / f"run{workers}", "--methods", "average,laplacian", "--workers", workers)
    one, three = (tree(tmp_path / f"run{n}") for n in (1, 3))
    assert {k: v for k, v in one.items() if "records" not in k} == {
        k: v for k, v in three.items() if "records" not in k
    }


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path):
    root = make_tno(tmp_path / "data", 25, 120, 160)
    arguments = ["--methods", "average,maximum,laplacian", "--datasets", "TNO", "--workers", "1"]
    whole = tmp_path / "whole"
    assert reproduce(root, whole, *arguments[:2], "--workers", 1)[0] == 0
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "evalkit.cli", "reproduce", "smfnet-table1", "--data-root", str(root)]
    journal = killed / "scores" / "TNO" / "laplacian.csv.partial"
    for lines in (3, 12):  # killed twice, the second time after it had resumed
        process = subprocess.Popen([*command, "--out", str(killed), *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if journal.is_file() and journal.read_bytes().count(b"\n") > lines:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
        assert process.wait() == -signal.SIGKILL
        with open(journal, "ab") as file:
            file.write(b'09,abc,1.0,"2')  # and the last line was only half written
    assert reproduce(root, killed, *arguments[:2], "--workers", 1)[0] == 0
    for part in ("scores", "fused"):
        assert tree(killed / part) == tree(whole / part)
    assert (killed / "table.csv").read_bytes() == (whole / "table.csv").read_bytes()


def test_sample_run_never_passes_for_a_data_set(tmp_path):
    code, out, _ = run("reproduce", "smfnet-table1", "--sample", "--out", tmp_path)
    assert code == 0, out
    table = evalkit.read_table(tmp_path)
    assert table.datasets == ["samples"]
    assert all(cell.published is None for cell in table.cells)
    for name in ("table.md", "table.tex", "table.html"):
        assert "generated sample scenes" in (tmp_path / name).read_text()
    assert "generated sample scenes" in out
    assert "TNO" not in (tmp_path / "table.csv").read_text()


# --- what a user can get wrong


def test_unknown_names_are_answered_with_the_nearest(tmp_path):
    root = make_tno(tmp_path / "data", 2)
    cases = [
        (["reproduce", "smfnet-tabel1", "--data-root", root], "smfnet-table1"),
        (["reproduce", "smfnet-table1", "--data-root", root, "--methods", "CDDFuze"], "CDDFuse"),
        (["reproduce", "smfnet-table1", "--data-root", root, "--datasets", "RoadScenes"], "RoadScene"),
        (["evaluate", root / "TNO/ir", "--infrared", root / "TNO/ir", "--visible", root, "--metrics", "SSMI"], "SSIM"),
        (["evaluate", root, "--infrared", root, "--visible", root, "--convention", "smfnt"], "smfnet"),
        (["fuse", "averag", "--data-root", root, "--dataset", "TNO", "--out", tmp_path / "o"], "average"),
        (["fuse", "average", "--data-root", root, "--dataset", "TN0", "--out", tmp_path / "o"], "TNO"),
        (["show", "Qabd"], "Qabf"),
        (["data", "check", "MSRZ", "--data-root", root], "MSRS"),
        (["evalute"], "evaluate"),
    ]
    for arguments, near in cases:
        code, out, error = run(*arguments)
        assert code == 2, arguments
        assert f"Did you mean {near!r}" in error, error
        assert out == ""
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["reproduce", "smfnet-table1"],
        ["reproduce", "smfnet-table1", "--data-root", "nowhere"],
        ["reproduce", "smfnet-table1", "--data-root", ".", "--outputs", "nowhere"],
        ["evaluate", "nowhere", "--infrared", "nowhere", "--visible", "nowhere"],
        ["evaluate", ".", "--infrared", ".", "--visible", "."],
        ["data", "check"],
        ["data", "check", "--data-root", "."],
        ["data", "check", "TNO", "--data-root", ".", "--json"],
        ["data", "sample", "x", "--size", "big"],
        ["data", "sample", "x", "--size", "999999999x999999999"],
        ["bench", "metrics", "--sizes", "999999999x999999999"],
        ["evaluate", "one.png", "--infrared", "one.png", "--visible", "one.png", "--name", "{stem}_x"],
        ["evaluate", ".", "--infrared", "one.png", "--visible", "."],
        ["train", "SMFNet", "--sample", "--out", "x", "--device", "gpu"],
        ["train", "SMFNet", "--sample", "--out", "x", "--device", "cuda:999"],
        ["reproduce", "smfnet-table1", "--data-root", ".", "--engine", "dask", "--address", "foo", "--out", "x"],
        ["table", "nowhere"],
        ["fuse", "CDDFuse", "--data-root", ".", "--dataset", "TNO", "--out", "x"],
        ["reproduce", "smfnet-table1", "--sample", "--datasets", "TNO"],
        ["reproduce", "smfnet-table1", "--data-root", ".", "--methods", "../../etc", "--outputs", "."],
    ],
)
def test_wrong_calls_say_so_and_write_nothing(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVALKIT_DATA", raising=False)
    code, out, error = run(*arguments)
    assert code == 2
    assert error.startswith("Error: ")
    assert out == ""
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_missing_partners_make_missing_values(tmp_path):
    root = make_tno(tmp_path / "data")
    for stem in ("03", "07", "11"):
        (root / "TNO" / "vi" / f"{stem}.png").unlink()
    code, out, _ = reproduce(root, tmp_path / "run", "--methods", "average")
    assert code == 3
    assert "no value for 3 of 25 images: no visible image (03, 07, 11)" in out
    table = evalkit.read_table(tmp_path / "run")
    assert all(cell.value is None for cell in table.cells)
    scores = (tmp_path / "run" / "scores" / "TNO" / "average.csv").read_text().splitlines()
    assert len(scores) == 1 + 22  # what could be measured is kept


def test_fewer_pairs_than_the_paper_are_not_compared(tmp_path):
    root, outputs = make_tno(tmp_path / "data", 24), make_outputs(tmp_path / "outputs", count=24)
    code, out, _ = reproduce(root, tmp_path / "run", "--methods", "CDDFuse", "--outputs", outputs)
    assert code == 0
    cell = evalkit.read_table(tmp_path / "run").cell("TNO", "CDDFuse", "EN")
    assert cell.status == "other data"
    assert cell.difference is None
    assert "24 pairs, the paper's table on 25" in cell.reason
    assert "other data" in out


def test_damaged_and_odd_fused_images(tmp_path):
    root, outputs = make_tno(tmp_path / "data"), make_outputs(tmp_path / "outputs", "My Méthod 融合")
    folder = outputs / "My Méthod 融合" / "TNO"
    good = np.asarray(Image.open(folder / "01.png"))
    Image.fromarray(np.dstack([good, good, good, np.full_like(good, 200)])).save(folder / "01.png")  # RGBA
    Image.fromarray(good.astype(np.uint16) * 257).save(folder / "02.png")  # 16-bit
    plain = reproduce(root, tmp_path / "run", "--methods", "My Méthod 融合", "--outputs", outputs)
    assert plain[0] == 0, plain
    lines = (tmp_path / "run" / "scores" / "TNO" / "My Méthod 融合.csv").read_text().splitlines()
    assert lines[0].startswith("image,key,EN")
    sizes = folder / "03.png"
    sizes.write_bytes((folder / "04.png").read_bytes()[:200])
    write_png(folder / "05.png", textured(5, 32, 32))
    write_png(folder / "06.png", np.full((48, 64), 9, np.uint8))
    (folder / "07.png").unlink()
    code, out, _ = reproduce(root, tmp_path / "run", "--methods", "My Méthod 融合", "--outputs", outputs)
    assert code == 3
    assert "no value for 3 of 25 images" in out
    record = json.loads((tmp_path / "run" / "records" / "TNO__My Méthod 融合.json").read_text())
    reasons = {f["image"]: f["reason"] for f in record["failures"]}
    assert set(reasons) == {"03", "05", "07"}
    assert "damaged" in reasons["03"]
    assert "32x32" in reasons["05"]
    assert "64x48" in reasons["05"]
    assert reasons["07"] == "no fused image"
    for form in ("latex", "markdown", "html", "csv", "json"):
        code, text, _ = run("table", tmp_path / "run", "--format", form)
        assert code == 0
        assert all(character in text for character in "融合")  # pdflatex needs something beside each of them


def test_a_constant_fused_image_is_a_missing_value_where_it_is_undefined(tmp_path):
    root, outputs = make_tno(tmp_path / "data", 3), tmp_path / "outputs"
    for i in (1, 2, 3):
        write_png(outputs / f"{i:02d}.png", np.full((48, 64), 9, np.uint8))
    code, out, _ = run(
        "evaluate", outputs, "--infrared", root / "TNO/ir", "--visible", root / "TNO/vi", "--metrics", "EN,CC", "--json"
    )
    assert code == 3
    scores = json.loads(out)
    assert scores["mean"] == {"EN": 0.0, "CC": None}
    assert scores["scores"]["02"] == {"EN": 0.0, "CC": None}
    assert "constant" in scores["missing"][0]["reason"]


@pytest.mark.parametrize("command", ["reproduce", "evaluate", "fuse"])
def test_an_output_place_that_cannot_be_written(command, tmp_path):
    root, outputs = make_tno(tmp_path / "data", 2), make_outputs(tmp_path / "outputs", count=2)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    arguments = {
        "reproduce": ["reproduce", "smfnet-table1", "--data-root", root, "--out", blocked / "run"],
        "evaluate": [
            *["evaluate", outputs / "CDDFuse/TNO", "--infrared", root / "TNO/ir", "--visible", root / "TNO/vi"],
            *["--out", blocked / "scores.csv"],
        ],
        "fuse": ["fuse", "average", "--data-root", root, "--dataset", "TNO", "--out", blocked / "fused"],
    }[command]
    code, _, error = run(*arguments)
    assert code == 2
    assert "cannot write" in error
    assert blocked.read_text() == "in the way"


# --- the other commands


def test_evaluate_agrees_with_the_library(tmp_path):
    root, outputs = make_tno(tmp_path / "data", 4), make_outputs(tmp_path / "outputs", count=4)
    folders = [outputs / "CDDFuse" / "TNO", root / "TNO" / "ir", root / "TNO" / "vi"]
    arguments = ["evaluate", folders[0], "--infrared", folders[1], "--visible", folders[2], "--convention", "smfnet"]
    code, out, _ = run(*arguments, "--metrics", "EN,SD,VIF,SSIM[textbook]", "--out", tmp_path / "scores.csv", "--json")
    assert code == 0, out
    names = ["EN", "SD", "VIF", "SSIM[textbook]"]
    frame = evalkit.evaluate_folder(*folders, names, "smfnet")
    result = json.loads(out)
    for stem, row in frame.iterrows():
        assert result["scores"][stem] == row.to_dict()
    assert result["mean"] == pytest.approx(frame.mean().to_dict())
    code, out, _ = run(*arguments)
    assert "convention smfnet" in out
    single = [f / "02.png" for f in folders]
    code, out, _ = run("evaluate", single[0], "--infrared", single[1], "--visible", single[2], "--json")
    assert json.loads(out)["mean"]["EN"] == evalkit.evaluate(*single, ["EN"])["EN"]


def test_fuse_keeps_the_visible_colours_unless_gray(tmp_path):
    root = make_tno(tmp_path / "data", 2)
    for i in (1, 2):
        gray = textured(1000 + i)
        write_png(root / "TNO" / "vi" / f"{i:02d}.png", np.dstack([gray, gray // 2, gray // 3]))
    common = ["fuse", "laplacian", "--data-root", root, "--dataset", "TNO"]
    assert run(*common, "--out", tmp_path / "colour")[0] == 0
    assert run(*common, "--out", tmp_path / "gray", "--gray")[0] == 0
    assert Image.open(tmp_path / "colour/laplacian/TNO/01.png").mode == "RGB"
    assert Image.open(tmp_path / "gray/laplacian/TNO/01.png").mode == "L"
    (root / "TNO" / "vi" / "02.png").write_bytes(b"no image")
    code, out, _ = run(*common, "--out", tmp_path / "missing", "--json")
    assert code == 3
    assert list(json.loads(out)["failures"]) == ["02"]


@pytest.mark.parametrize("kind", ["protocols", "methods", "metrics", "datasets"])
def test_list_and_show(kind):
    code, out, _ = run("list", kind, "--json")
    entries = json.loads(out)
    frame = getattr(evalkit, f"list_{kind}")()
    assert [e["name"] for e in entries] == list(frame.index)
    assert code == 0
    for entry in entries:
        code, text, _ = run("show", entry["name"])
        assert code == 0
        assert entry["title"] in text


def test_start_is_light():
    """Neither the import nor the help loads anything heavy."""
    program = (
        "import sys, evalkit, evalkit.cli\nfrom click.testing import CliRunner\n"
        "assert CliRunner().invoke(evalkit.cli.main, ['--help']).exit_code == 0\n"
        "heavy = ('torch', 'numpy', 'pandas', 'cv2', 'scipy', 'matplotlib', 'ultralytics')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_columns_of_other_conventions_are_named_so(tmp_path):
    root, outputs = make_tno(tmp_path / "data", 2), make_outputs(tmp_path / "outputs", count=2)
    folders = ["--infrared", root / "TNO/ir", "--visible", root / "TNO/vi"]
    code, out, _ = run("evaluate", outputs / "CDDFuse/TNO", *folders, "--metrics", "PSNR,PSNR[tang],CE[vifb]")
    assert code == 0
    assert "PSNR ↑" in out
    assert "PSNR[tang] ↑" in out
    assert "CE[vifb] ↓" in out


def test_a_dead_worker_is_told_and_loses_nothing(tmp_path):
    """A worker that the system kills ends the run with a message, not with a hang or a traceback."""
    from evalkit.engine.processes import in_processes
    from evalkit.errors import EvalkitError

    def die(job: int) -> int:
        if job == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return job

    with pytest.raises(EvalkitError, match="worker process died"):
        list(in_processes(die, range(6), 2))
    assert list(in_processes(abs, [-1, -2, -3], 2)) == [1, 2, 3]


def test_a_full_disk_stops_with_one_sentence(tmp_path, monkeypatch):
    """No space for the third fused image: an error, nothing half-written, and the run goes on when there is space."""
    import errno

    from evalkit.files import write as files

    root = make_tno(tmp_path / "data")
    real, written = os.replace, []

    def replace(source, target):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(target)
        real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    with warnings.catch_warnings(action="error"):
        code, _, error = reproduce(root, tmp_path / "run", "--methods", "average", "--workers", 1)
    assert code == 2
    assert "No space left on device" in error
    assert len(error.splitlines()) == 1
    assert len([p for p in (tmp_path / "run").rglob("*") if p.is_file()]) == 2
    monkeypatch.undo()
    assert reproduce(root, tmp_path / "run", "--methods", "average")[0] == 0
