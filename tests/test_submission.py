"""A board to submit to: `leaderboard submit`, what `verify` finds in a submission, and how the site shows it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from conftest import make_outputs, make_tno
from test_leaderboard import HOSTILE, Reader, change

import evalkit
from evalkit.cli import main
from evalkit.errors import DataError, EvalkitError, OutputError
from evalkit.leaderboards.site.build import build
from evalkit.leaderboards.site.entries import own_entries
from evalkit.leaderboards.submission import check_submission, submit
from evalkit.leaderboards.verify import UNPROVEN, verify
from evalkit.records.record import load

CARD = {"name": "Ours", "kind": "network", "title": "Our <b>network</b>", "authors": "J. Doe", "year": 2026}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data, outputs, run: a method's outputs and one that evalkit fused; ours.yaml; sub: the submission of both."""
    home = tmp_path_factory.mktemp("home")
    make_tno(home / "data", 3)
    make_outputs(home / "outputs", "Ours", 3)
    rows = {"methods": ["Ours", "average"], "datasets": "TNO", "workers": 1}
    evalkit.reproduce("smfnet-table1", home / "data", outputs=home / "outputs", out=home / "run", **rows)
    (home / "ours.yaml").write_text(yaml.safe_dump(CARD))
    submit(home / "run", home / "sub", "Doe & <i>Roe</i>", cards=[home / "ours.yaml"])
    return home


@pytest.fixture
def sub(home: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(home / "sub", tmp_path / "sub"))


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert "Traceback" not in done.output
    return done.exit_code, " ".join(done.output.split())


def redo_manifest(folder: Path) -> None:
    """As somebody would who knows how the manifest is made."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() and p.name != "files.json"}
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    (folder / "files.json").write_text(json.dumps({"files": hashes}))


def problems(folder: Path) -> str:
    return "\n".join(problem for verdict in verify(folder) for problem in verdict.problems)


def test_from_a_run_to_a_row_with_a_badge(home: Path, tmp_path: Path) -> None:
    out, badge = tmp_path / "sub", tmp_path / "badge.json"
    code, said = run(
        "leaderboard", "submit", home / "run", "--out", out, "--by", "Doe lab", "--card", home / "ours.yaml"
    )
    assert code == 0
    assert said.startswith("2 rows of smfnet-table1, without images")
    assert not [path for path in out.rglob("*") if path.suffix == ".png"]
    assert (out / "records/TNO__Ours.json").read_bytes() == (home / "run/records/TNO__Ours.json").read_bytes()
    assert json.loads((out / "environment.json").read_text()) == [load(out / "records/TNO__Ours.json").provenance]
    code, said = run("leaderboard", "verify", out)
    assert code == 0
    assert " ".join(UNPROVEN.split()) in said
    code, said = run("leaderboard", "verify", out, "--badge", badge)
    assert code == 2  # nothing was measured again
    assert "no badge to write" in said
    assert not badge.exists()
    images = ["--data-root", home / "data", "--fused", home / "outputs", "--remeasure", 2, "--badge", badge]
    code, said = run("leaderboard", "verify", out, *images)
    assert code == 0, said

    shown = built(tmp_path / "site", out, [badge])
    assert shown == {
        "Ours": ["submitted by Doe lab", "re-measured: 2 of 3"],
        "average": ["submitted by Doe lab", "re-measured: 2 of 3"],
    }
    front = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "2 images that evalkit fused again, of 3, measure the same" in front
    assert "2 of the fused images that were given, of 3, measure the same" in front
    assert built(tmp_path / "without", out, []) == {
        name: ["submitted by Doe lab", "not re-measured"] for name in ("Ours", "average")
    }


def built(site: Path, folder: Path, badges: list[Path]) -> dict[str, list[str]]:
    """Row -> its badges, on the page of its protocol; the front page lists the same."""
    build(site, [folder], plots=False, only_mine=True, badges=badges)
    front = (site / "index.html").read_text(encoding="utf-8")
    assert "<h2>Submitted</h2>" in front
    rows = {}
    for text in (site / "smfnet-table1.html").read_text(encoding="utf-8").split("<tr ")[1:]:
        shown = re.findall(r'<span class="badge[^>]*>([^<]*)</span>', text.partition("</tr>")[0])
        if any("submitted by" in badge for badge in shown):
            rows[re.search(r'aria-haspopup="dialog">([^<]*)<', text)[1]] = shown
            assert all(badge in front for badge in shown)
    return rows


def test_a_badge_is_of_the_record_that_was_measured_alone(home: Path, tmp_path: Path) -> None:
    badge = tmp_path / "badge.json"
    images = ["--data-root", home / "data", "--fused", home / "outputs", "--badge", badge]
    assert run("leaderboard", "verify", home / "sub", *images)[0] == 0
    other = Path(shutil.copytree(home / "run", tmp_path / "run"))
    change(other / "records/TNO__Ours.json", finished="2026-12-24")
    submit(other, tmp_path / "sub", "Doe", cards=[home / "ours.yaml"])
    shown = built(tmp_path / "site", tmp_path / "sub", [badge])
    assert shown["Ours"][1] == "not re-measured"
    assert shown["average"][1] == "re-measured: 3 of 3"


def test_what_nobody_measured_again_is_never_the_best(home: Path, tmp_path: Path) -> None:
    """Two rows: where both are ranked one is best in each column."""
    badge = tmp_path / "badge.json"
    images = ["--data-root", home / "data", "--fused", home / "outputs", "--badge", badge]
    assert run("leaderboard", "verify", home / "sub", *images)[0] == 0
    for badges, marked in (([], False), ([badge], False)):  # other images than the paper's: not ranked in any case
        built(tmp_path / "site", home / "sub", badges)
        assert ('class="m best"' in (tmp_path / "site/smfnet-table1.html").read_text()) is marked
    evalkit.reproduce("smfnet-table1", sample=True, methods=["average", "laplacian"], out=tmp_path / "run", workers=1)
    submit(tmp_path / "run", tmp_path / "sub", "Doe")
    assert (
        run("leaderboard", "verify", tmp_path / "sub", "--data-root", tmp_path / "run/data", "--badge", badge)[0] == 0
    )
    for badges, marked in (([], False), ([badge], True)):
        built(tmp_path / "site", tmp_path / "sub", badges)
        assert ('class="m best"' in (tmp_path / "site/smfnet-table1.html").read_text()) is marked


def test_submissions_measure_no_printed_number(home: Path, tmp_path: Path) -> None:
    without, with_it = build(tmp_path / "a", plots=False), build(tmp_path / "b", [home / "sub"], plots=False)
    assert [page.counts() for page in without] == [page.counts() for page in with_it]
    assert (tmp_path / "a/coverage.html").read_bytes() == (tmp_path / "b/coverage.html").read_bytes()


def test_names_in_a_submission_are_only_text(home: Path, tmp_path: Path) -> None:
    outputs = Path(shutil.copytree(home / "outputs/Ours", tmp_path / "outputs/<i>x")).parent
    options = {"methods": ["<i>x"], "datasets": "TNO", "workers": 1}
    evalkit.reproduce("smfnet-table1", home / "data", outputs=outputs, out=tmp_path / "run", **options)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(CARD | {"name": "<i>x", "title": HOSTILE, "note": HOSTILE}))
    submit(tmp_path / "run", tmp_path / "sub", HOSTILE, cards=[tmp_path / "x.yaml"])
    build(tmp_path / "site", [tmp_path / "sub"], plots=False, only_mine=True)
    for name in ("index.html", "records.html", "smfnet-table1.html"):
        page = Reader((tmp_path / "site" / name).read_text(encoding="utf-8"))
        assert "i" not in {tag for tag, _ in page.elements}
        assert not [a for a in page.all("img") if a.get("src") == "x"]
        assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]


def a_score(sub: Path) -> None:
    path = sub / "scores/TNO/Ours.csv"
    path.write_text(path.read_text().replace("0", "1", 3))


def a_record(sub: Path) -> None:
    change(sub / "records/TNO__Ours.json", scores__EN=7.9)


def a_card(sub: Path) -> None:
    (sub / "cards/Ours.yaml").write_text(yaml.safe_dump(CARD | {"authors": "N. N."}))


def the_submitter(sub: Path) -> None:
    about = json.loads((sub / "submission.json").read_text())
    (sub / "submission.json").write_text(json.dumps(about | {"by": "N. N."}))


def the_environment(sub: Path) -> None:
    (sub / "environment.json").write_text("[]")


@pytest.mark.parametrize("tamper", [a_score, a_record, a_card, the_submitter, the_environment])
def test_what_was_changed_is_found(tamper: Callable[[Path], None], sub: Path, tmp_path: Path) -> None:
    tamper(sub)
    assert "was changed after it was submitted" in problems(sub)
    code, said = run("leaderboard", "verify", sub)
    assert code == 1
    assert "1 checked (submission), 1 with problems" in said  # the records are not read
    code, said = run("leaderboard", "build", tmp_path / "site", "--records", sub, "--no-plots")
    assert code == 2
    assert "The submission is not shown" in said
    redo_manifest(sub)
    says = {a_score: "digest", a_record: "EN is 7.9", the_environment: "environment.json is not what the records say"}
    if tamper in says:
        assert says[tamper] in problems(sub)
    else:
        assert not problems(sub)  # a card, and a name, are what the submitter says


def edit(name: str, **fields: object) -> Callable[[Path], None]:
    def change_fields(sub: Path) -> None:
        change(sub / name, **fields)

    return change_fields


def text(name: str, content: str) -> Callable[[Path], None]:
    def write(sub: Path) -> None:
        (sub / name).parent.mkdir(parents=True, exist_ok=True)
        (sub / name).write_text(content)

    return write


def link(sub: Path) -> None:
    (sub / "scores/TNO/Ours.csv").unlink()
    (sub / "scores/TNO/Ours.csv").symlink_to("/etc/passwd")


def pipe(sub: Path) -> None:
    os.mkfifo(sub / "records/TNO__pipe.json")


def folder_link(sub: Path) -> None:
    (sub / "records/more").symlink_to("/etc")


def huge(sub: Path) -> None:
    with open(sub / "scores/TNO/Ours.csv", "wb") as file:
        file.truncate(10**12)


def many(sub: Path) -> None:
    for number in range(2001):
        (sub / f"cards/{number}.yaml").write_text("")


def twice(sub: Path) -> None:
    shutil.copy(sub / "records/TNO__Ours.json", sub / "records/TNO__Ours2.json")


def unsaid(sub: Path) -> None:
    record = sub / "records/TNO__Ours.json"
    record.write_text(record.read_text().replace('"EN": ', '"EN": NaN, "EN2": ', 1))


def a_text(sub: Path) -> None:
    record = json.loads((sub / "records/TNO__Ours.json").read_text())
    (sub / "records/TNO__Ours.json").write_text(json.dumps(record | {"scores": {"EN": "7.5"}}))


RECORD, CARDS = "records/TNO__Ours.json", "cards/Ours.yaml"


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        (link, "'scores/TNO/Ours.csv' is a link, a pipe or a device"),
        (folder_link, "'records/more' is a link"),
        (pipe, "'records/TNO__pipe.json' is a link, a pipe or a device"),
        (huge, "has more than 16 MiB"),
        (many, "more than 2000 files"),
        (text("fused/Ours/01.png", "x"), "'fused/Ours/01.png' is not a file of a submission"),
        (text("protocol.yaml", "data_root: /etc"), "'protocol.yaml' is not a file of a submission"),
        (text("records/a/records/x.json", "{}"), "is not a file of a submission"),
        (text("records/\x1b[2J.json", "{}"), "'records/\\x1b[2J.json' is not a file of a submission"),
        (text("files.json", "[]"), "files.json cannot be used"),
        (text("submission.json", '{"by": "x"}'), "submission.json cannot be used: protocol"),
        (text("submission.json", '{"by": 7, "protocol": "smfnet-table1", "evalkit": ""}'), "by: expected text, not 7"),
        (text("cards/Ours.yaml", "name: Ours\nkind: network\ntitle: x\nbadge: proven\n"), "badge: this is not a field"),
        (text("cards/Ours.yaml", "!!python/object/apply:os.system [ls]"), "is not valid YAML"),
        (text("cards/Ours.yaml", "a: " + "x" * 70_000), "more than the limit of 65536"),
        (lambda sub: (sub / CARDS).unlink(), "cards/Ours.yaml"),
        (twice, "the row Ours on TNO is there twice"),
        (unsaid, "NaN is not a number"),
        (a_text, "cannot be read (scores.EN: expected a number, not '7.5')"),
        (edit(RECORD, scores__EN=1e999), "Infinity is not a number"),
        (edit(RECORD, scores__EN=1e300), "EN is 1e+300, the mean of the per-image scores is"),
        (edit(RECORD, method__name="../../x"), "sub/cards/-.-..-x.yaml: No such file"),
        (edit(RECORD, method__name="CDDFuse"), "'CDDFuse' is the name of a row that evalkit knows"),
        (edit(RECORD, method__name="ｓｍｆｎｅｔ"), "is the name of a row that evalkit knows (SMFNet)"),
        (edit(RECORD, method__name="CDD\u200bFuse"), "holds the invisible character U+200B"),
        (edit(RECORD, method__name="x" * 101), "too many characters"),
        (edit(RECORD, protocol__name="smfnet-table4"), "the submission of 'smfnet-table1'"),
        (edit(RECORD, convention="coco", metrics=["EN[coco]"], scores={"EN": 9.0}, scores_hash=""), "EN"),
        (edit(RECORD, convention="textbook", metrics=["EN[textbook]"]), "the convention is textbook"),
    ],
)
def test_hostile_submissions_are_refused(attack: Callable[[Path], None], says: str, sub: Path) -> None:
    attack(sub)
    if attack not in (link, folder_link, pipe, huge, many) and says != "files.json cannot be used":
        redo_manifest(sub)  # all hashes fit
    assert says in problems(sub)
    with pytest.raises(DataError, match="The submission is not shown"):
        own_entries([sub])


def test_a_row_that_is_submitted_twice_is_refused(sub: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Ours on TNO of smfnet-table1 is submitted twice by"):
        build(tmp_path / "site", [sub, home / "sub"], plots=False)


def test_what_cannot_be_submitted(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no card of 'Ours'. Give one with --card"):
        submit(home / "run", tmp_path / "sub", "Doe")
    with pytest.raises(DataError, match="no measured row 'Our'"):
        submit(home / "run", tmp_path / "sub", "Doe", ["Our"])
    with pytest.raises(EvalkitError, match="who submits is ''"):
        submit(home / "run", tmp_path / "sub", "", ["average"])
    changed = Path(shutil.copytree(home / "run", tmp_path / "run"))
    a_record(changed)
    with pytest.raises(DataError, match=r"EN is 7\.9"):
        submit(changed, tmp_path / "sub", "Doe", ["average"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="holds no evalkit site or submission"):
        submit(home / "run", tmp_path / "mine", "Doe", ["average"])
    assert not (tmp_path / "sub").exists()
    assert len(submit(home / "run", tmp_path / "sub", "Doe", ["average"])) == 1
    submit(home / "run", tmp_path / "sub", "Doe", cards=[home / "ours.yaml"])  # replaces it
    assert check_submission(tmp_path / "sub").ok


def test_the_shell_step_of_the_workflow(home: Path, tmp_path: Path) -> None:
    """The example's script, on a passing and on failing folders."""
    workflow = yaml.safe_load((Path(__file__).parents[1] / "examples/ci/submission.yml").read_text())
    script = next(step["run"] for step in workflow["jobs"]["verify"]["steps"] if step.get("name") == "verify")
    program = tmp_path / "bin/evalkit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evalkit "$@"\n')
    program.chmod(0o755)
    shutil.copytree(home / "sub", tmp_path / "submissions/doe")
    path = f"{program.parent}:{os.environ['PATH']}"
    python = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PATH": path, "PYTHONPATH": python, "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}

    def step() -> int:
        return subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=False).returncode

    assert step() == 0
    assert "0 with problems" in (tmp_path / "summary.md").read_text()
    a_record(tmp_path / "submissions/doe")
    assert step() == 1
    assert "was changed after it was submitted" in (tmp_path / "summary.md").read_text()
    shutil.rmtree(tmp_path / "submissions/doe")
    shutil.copytree(home / "run", tmp_path / "submissions/run")  # a run is not a submission
    assert step() == 1
