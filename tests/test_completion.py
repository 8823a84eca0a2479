"""Tab completes names: of protocols, methods, metrics, ..., in lists, for bash, zsh and fish, plug-ins' included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from evalkit.cli import main
from evalkit.commands.completion import PARAMETERS, NameType
from evalkit.commands.shells import Bash
from evalkit.data.card import DATASETS
from evalkit.methods.registry import METHODS
from evalkit.metrics.card import CONVENTIONS, METRICS
from evalkit.protocols.schema import PROTOCOLS
from evalkit.protocols.table.cells import Cell, Column
from evalkit.protocols.table.table import Table
from evalkit.training.find_recipe import trainable

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = '''"""Noise: a plug-in that prints and warns."""
import warnings
import evalkit

print("plain,noise")
warnings.warn("loud")

@evalkit.metric("QX", convention="mine", better="higher", range="0 .. 1", unit="1", source="Doe 2026")
def qx(pair):
    """Share of bright pixels."""
    return 1.0

evalkit.register_method({"name": "darker", "kind": "classical", "title": "The darker source"}, lambda weights: min)
evalkit.register_dataset("card.yaml")
evalkit.register_protocol("bench.yaml")
evalkit.register_recipe("recipe.yaml")
'''
CARD = """name: Attic
title: An attic
folders: [Attic]
modalities: {infrared: heat, visible: light}
colour: gray
layouts: [{name: mine, infrared: ir, visible: vi}]
licence: mine
source: here
"""
BENCH = """title: Mine
convention: smfnet
metrics: [EN, "QX[mine]"]
datasets: {TNO: {pairs: 4}}
methods: [average, OwnNet]
"""


def offered(*words):
    """What the shell offers for the last word."""
    items = Bash(main, {}, "evalkit", "_EVALKIT_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [item.value for item in items if item.type == "plain"]


def has_files(*words):
    return "file" in {i.type for i in Bash(main, {}, "evalkit", "").get_completions(list(words[:-1]), words[-1])}


FIRST = {  # every name of a kind is offered where nothing is typed
    "protocols": (list(PROTOCOLS), ["reproduce"], ["audit"], ["table", "--published"], ["plot", "bar", "--published"]),
    "methods": (list(METHODS), ["rank", "--methods"], ["plot", "pr", "--methods"]),
    "datasets": (list(DATASETS), ["data", "check"], ["fuse", "--dataset"], ["evaluate-segmentation", "--dataset"],
                 ["rank", "--datasets"], ["plot", "grid", "--datasets"], ["compare", "--datasets"]),
    "conventions": (list(CONVENTIONS), ["compare", "--convention"]),
    "metrics": (list(METRICS), ["rank", "--metrics"], ["compare", "--metrics"], ["plot", "radar", "--metrics"]),
    "fusion metrics": (list(CONVENTIONS["textbook"].definitions), ["evaluate", "--metrics"]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("names", "words"),
    [pytest.param(names, words, id=" ".join(words)) for names, *places in FIRST.values() for words in places],
)
def test_every_name_is_offered_in_every_command_that_takes_it(names, words):
    assert offered(*words, "") == names


STARTED = {
    "reproduce smfnet-t": [f"smfnet-table{n}" for n in range(1, 7)],
    "reproduce SMFNET-TABLE1": ["smfnet-table1"],
    "reproduce smfnet-table1 --methods CDD": ["CDDFuse"],
    "reproduce smfnet-table1 --methods didfuse,cddf": ["didfuse,CDDFuse"],
    "reproduce smfnet-table1 --datasets ": ["TNO", "RoadScene", "MSRS"],
    "reproduce smfnet-table1 --datasets TNO,": ["TNO,RoadScene", "TNO,MSRS"],
    "reproduce smfnet-table1 --recipe sm": ["small"],
    "table --published psfusion-table5": ["psfusion-table5"],
    "evaluate --metrics EN,S": ["EN,SD", "EN,SF", "EN,SCD", "EN,SSIM"],
    "evaluate --metrics EN,SD,S": ["EN,SD,SF", "EN,SD,SCD", "EN,SD,SSIM"],
    "evaluate --metrics EN,SSIM[t": ["EN,SSIM[textbook]", "EN,SSIM[tang]", "EN,SSIM[tsjnet]"],
    "evaluate --convention vifb --metrics RM": ["RMSE", "RMSE[textbook]", "RMSE[vifb]"],
    "evaluate --convention a": ["all"],
    "evaluate F --infrared I --visible V --convention t": ["textbook", "tang", "tsjnet"],
    "check golden.csv --metrics PSNR[s": ["PSNR[smfnet]"],
    "fuse SMF": ["SMFNet"],
    "fuse average --dataset MSRS --split te": ["test"],
    "rank --published smfnet-table5": ["smfnet-table5"],
    "rank --published smfnet-table1 --methods SH": ["SHIP"],
    "plot bar --published smfnet-table5 --metrics ": list(PROTOCOLS["smfnet-table5"].metrics),
    "plot scatter --cost s": [name for name, p in PROTOCOLS.items() if p.task == "cost" and name[0] == "s"],
    "train ": trainable(),
    "train PSFusion --recipe ": ["small", "authors", "paper"],
    "train SMFNet --recipe sam": ["sample"],
    "show vif": ["vifb", "VIFB", "VIF", "VIFF", "VIF-wavelet"],
    "show SSIM[ta": ["SSIM[tang]"],
    "list conv": ["conventions"],
    "report runs/t1 --sections tables,ra": ["tables,ranks", "tables,radar"],
    "evaluate F --images c": ["common"],
    "reprod": ["reproduce"],
    "reproduce smfnet-table1 --meth": ["--methods"],
}


@pytest.mark.parametrize(("line", "names"), STARTED.items(), ids=STARTED)
def test_names_are_completed_from_what_is_typed(line, names):
    assert offered(*line.split(" ")) == names


def test_where_a_file_may_stand_files_are_offered_too():
    for words in (
        ["reproduce", ""],
        ["train", "SMFNet", "--recipe", ""],
        ["rank", ""],
        ["--plugin", ""],
        ["evaluate", ""],
    ):
        assert has_files(*words)
    assert not has_files("evaluate", "--metrics", "")


@pytest.fixture
def a_run(tmp_path):
    cells = [
        Cell(dataset, method, metric, 1.0, None, 2, "unpublished")
        for dataset in ("TNO", "Attic")
        for method in ("OwnNet", "average")
        for metric in ("EN", "SSIM[tang]")
    ]
    columns = [Column(name, "higher", "", "") for name in ("EN", "SSIM[tang]")]
    Table("bench", "t", "s", "smfnet", "c", columns, cells=cells).write(tmp_path / "run")
    return str(tmp_path / "run")


def test_of_a_run_its_own_rows_and_columns_are_offered(a_run):
    for words in (["rank", a_run], ["plot", "bar", a_run], ["compare", "average", "OwnNet", "--run", a_run]):
        assert offered(*words, "--datasets", "") == ["Attic", "TNO"]
        assert offered(*words, "--metrics", "EN,S") == ["EN,SSIM[tang]"]
    assert offered("rank", a_run, "--methods", "") == ["OwnNet", "average"]
    assert offered("plot", "critical", a_run, "--methods", "own") == ["OwnNet"]
    assert offered("compare", "--run", a_run, "O") == ["OwnNet"]
    assert offered("compare", "--run", a_run, "OwnNet", "") == ["OwnNet", "average"]


def test_of_outputs_and_protocol_files_their_own_names_are_offered(tmp_path):
    (tmp_path / "outputs" / "MyNet" / "TNO").mkdir(parents=True)
    (tmp_path / "bench.yaml").write_text(BENCH)
    words = ["reproduce", str(tmp_path / "bench.yaml"), "--outputs", str(tmp_path / "outputs"), "--methods"]
    assert offered(*words, "My") == ["MyNet"]
    assert offered(*words, "Own") == ["OwnNet"]
    assert offered(*words[:2], "--datasets", "") == ["TNO"]


BROKEN = [
    ["reproduce", "no-such-protocol", "--datasets", ""],
    ["reproduce", "missing.yaml", "--methods", ""],
    ["reproduce", "smfnet-table1", "--outputs", "/no/such/folder", "--methods", ""],
    ["rank", "/no/such/run", "--metrics", ""],
    ["fuse", "average", "--dataset", "NoSuch", "--split", ""],
    ["evaluate", "--convention", "nonsense", "--metrics", ""],
    ["--plugin", "missing.py", "reproduce", ""],
    ["nonsense", ""],
]


@pytest.mark.parametrize("words", BROKEN, ids=" ".join)
def test_what_is_typed_wrongly_is_no_error(words):
    offered(*words)


# as shells ask


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a plug-in, where `evalkit` can be called."""
    for name, text in {"mine.py": PLUGIN, "card.yaml": CARD, "bench.yaml": BENCH}.items():
        (tmp_path / name).write_text(text)
    recipe = (ROOT / "evalkit/training/recipes/SMFNet-small.yaml").read_text().replace("name: small", "name: tiny")
    (tmp_path / "recipe.yaml").write_text(recipe)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "evalkit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evalkit "$@"\n')
    (tmp_path / "bin" / "evalkit").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(line, shell="bash"):
    """stdout of a request with this line, the cursor at its end."""
    words = line.split(" ")
    count = words[-1] if shell == "fish" else str(len(words) - 1)
    env = os.environ | {"_EVALKIT_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": count}
    done = subprocess.run([sys.executable, "-m", "evalkit"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bash_gets_names_alone(place):
    assert ask("evalkit evaluate --metrics EN,SC") == "plain,EN,SCD\n" + "".join(
        f"plain,EN,SCD[{name}]\n" for name, c in CONVENTIONS.items() if "SCD" in c.definitions
    )
    assert ask("evalkit evaluate --metrics = EN,SD,AG[tan") == "plain,EN,SD,AG[tang]\n"  # --metrics=EN, as bash splits


def test_zsh_and_fish_say_what_a_name_is(place):
    title = METHODS["CDDFuse"].card.title
    assert ask("evalkit rank --methods SHIP,CDD", "zsh") == f"plain\nSHIP,CDDFuse\n{title}\n"
    assert ask("evalkit rank --methods SHIP,CDD", "fish") == f"plain,SHIP,CDDFuse\t{title}\n"


PLUGGED = {
    "evaluate --metrics EN,QX": "EN,QX[mine]",
    "evaluate --convention mine --metrics Q": "QX",
    "evaluate --convention mi": "mine",
    "fuse dar": "darker",
    "data check Att": "Attic",
    "reproduce ben": "bench",
    "train SMFNet --recipe ti": "tiny",
}


@pytest.mark.filterwarnings("ignore:loud")
@pytest.mark.parametrize(("line", "name"), PLUGGED.items(), ids=PLUGGED)
def test_names_of_plugins_are_offered(place, line, name):
    assert name in offered("--plugin", "mine.py", *line.split(" "))


def test_what_plugins_print_is_not_offered(place, monkeypatch):
    monkeypatch.setenv("EVALKIT_PLUGINS", "mine.py")
    assert ask("evalkit fuse dar") == "plain,darker\n"
    (place / "mine.py").write_text("1 / 0")
    assert ask("evalkit fuse dar") == "\n"


def test_no_request_imports_torch_or_pandas():
    code = f"""if 1:
        import sys
        from evalkit.cli import main
        from evalkit.commands.shells import Bash
        for line in {[*STARTED, "plot bar runs/no --metrics "]!r}:
            *words, last = line.split(" ")
            Bash(main, {{}}, "evalkit", "").get_completions(words, last)
        print(sorted({{"torch", "pandas", "matplotlib"}} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def in_bash(line):
    """COMPREPLY of a real bash."""
    script = f"""
        eval "$(_EVALKIT_COMPLETE=bash_source evalkit)"
        COMP_WORDS=({line}) COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        compopt() {{ :; }}
        _evalkit_completion evalkit
        printf '%s\\n' "${{COMPREPLY[@]}}" """
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()


def in_fish(line):
    """What a real fish would offer."""
    script = f"_EVALKIT_COMPLETE=fish_source evalkit | source; complete -C '{line}'"
    done = subprocess.run(["fish", "-c", script], capture_output=True, text=True, check=True)
    return [item.partition("\t")[0] for item in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", [in_bash, in_fish], ids=["bash", "fish"])
def test_a_real_shell_completes_lists(place, shell):
    if shutil.which(shell.__name__.removeprefix("in_")) is None:
        pytest.skip("this shell is not installed")
    (place / "SSIMt").touch()  # which the pattern SSIM[tang] would match
    assert sorted(shell("evalkit evaluate --metrics EN,SF,S")) == ["EN,SF,SCD", "EN,SF,SD", "EN,SF,SSIM"]
    assert shell("evalkit evaluate --metrics SSIM[ta") == ["SSIM[tang]"]
    assert shell("evalkit fuse CDD") == ["CDDFuse"]


def texts(command, path=()):
    """(path of the command, parameter) of every text that is not one of a few choices."""
    for param in command.params:
        if isinstance(param.type, click.types.StringParamType):
            yield " ".join(path), param
    for name, each in getattr(command, "commands", {}).items():
        yield from texts(each, (*path, name))


def test_parameters_that_take_names_complete_them_in_every_command():
    named = {key.split(" ")[-1] for key in PARAMETERS} - {"name"}  # of --name '{stem}_fused'
    assert not [
        (path, param.name) for path, param in texts(main) if param.name in named and type(param.type) is not NameType
    ]
    assert {key for key in PARAMETERS if " " in key} <= {f"{path} {param.name}" for path, param in texts(main)}
