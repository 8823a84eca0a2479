"""How every command ends when something ends it: Ctrl-C, no memory, output that goes nowhere, an ASCII terminal."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from conftest import finished_run, make_outputs, make_tno, textured

import evalkit
from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.errors import OutputError

PROGRAM = [sys.executable, "-m", "evalkit"]
ENDS = (0, 1, 2, 3)  # of a command that nothing interrupts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, maps, masks and a golden file: what the commands below work on."""
    root = finished_run(tmp_path_factory.mktemp("endings"))
    truth = np.zeros((40, 50), np.uint8)
    truth[5:20, 10:30] = 255
    for name in ("a", "b"):
        write_png(root / "truth" / f"{name}.png", truth)
        write_png(root / "maps" / f"{name}.png", truth // 2)
        write_png(root / "masks" / f"{name}.png", truth // 255)
        for number, kind in enumerate(("fused", "ir", "vi")):
            write_png(root / "few" / kind / f"{name}.png", textured(number))
    (root / "golden.csv").write_text("image,metric,value\n01,EN[smfnet],7\n")
    (root / "mine.csv").write_text("method,metric,printed\na,EN,7.1\nb,EN,6.9\n")
    return root


SOURCES = "--infrared data/TNO/ir --visible data/TNO/vi"
COMMANDS = {
    "audit": "--table mine.csv",
    "check": f"golden.csv --fused outputs/CDDFuse/TNO {SOURCES} --workers 1",
    "compare": "CDDFuse average --run run --resamples 100",
    "coverage": "--records run",
    "data check": "TNO --data-root data",
    "data sample": "OUT --count 1 --size 64x64",
    "evaluate": "few/fused --infrared few/ir --visible few/vi --metrics EN,VIF --workers 1",
    "evaluate-saliency": "maps --truth truth",
    "evaluate-segmentation": "masks --truth masks",
    "fuse": "average --data-root data --dataset TNO --out OUT --workers 1",
    "init": "OUT.yaml --data data --outputs outputs",
    "leaderboard build": "OUT --no-plots --records run",
    "leaderboard submit": "run --out OUT --by Doe --methods average",
    "leaderboard verify": "run",
    "list": "metrics",
    "plot bar": "run --out OUT.svg",
    "report": "run --out OUT.html --sections tables,setup",
    "rank": "run",
    "reproduce": "smfnet-table1 --data-root data --datasets TNO --methods average --workers 1 --out OUT",
    "show": "SSIM",
    "table": "run --format html",
    "train": "SMFNet --recipe small --show",
}


SLOW = ("plot bar", "leaderboard build")  # seconds each, or started in processes of their own
QUICK = [name if name not in SLOW else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]


def leaves(group: click.Command, name: str = "") -> Iterator[str]:
    if isinstance(group, click.Group):
        for part, command in group.commands.items():
            yield from leaves(command, f"{name} {part}".strip())
    else:
        yield name


def test_every_command_is_tried() -> None:
    there = {name if not name.startswith("plot ") else "plot bar" for name in leaves(main)}
    assert there == set(COMMANDS)


@pytest.fixture
def call(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], tuple[int, str]]]:
    """Runs a command here, after which Ctrl-C is what it was: gives its exit code and what it wrote to the terminal."""
    monkeypatch.chdir(place)
    before = signal.getsignal(signal.SIGINT)
    numbers = itertools.count()

    def run(name: str, *more: str, stdout: io.TextIOBase | None = None) -> tuple[int, str]:
        errors = io.StringIO()
        monkeypatch.setattr(sys, "stderr", errors)
        if stdout is not None:
            monkeypatch.setattr(sys, "stdout", stdout)
        arguments = COMMANDS[name].replace("OUT", str(tmp_path / f"out{next(numbers)}")).split()
        with pytest.raises(SystemExit) as ended:
            main([*name.split(), *arguments, *more], prog_name="evalkit")
        code = ended.value.code
        assert isinstance(code, int)
        return code, errors.getvalue()

    yield run
    signal.signal(signal.SIGINT, before)


def one_sentence(told: str) -> None:
    assert "Traceback" not in told
    assert len(told.strip().splitlines()) == 1, told


# --- output that goes nowhere


@pytest.mark.parametrize("name", QUICK)
def test_a_full_disk_behind_the_output(call: Callable, name: str) -> None:
    with open("/dev/full", "w") as full:
        code, told = call(name, stdout=full)
    assert code == 2
    one_sentence(told)
    assert "standard output cannot be written: No space left on device" in told


@pytest.mark.parametrize("name", QUICK)
def test_a_reader_that_has_enough(call: Callable, name: str) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        code, told = call(name, stdout=pipe)
    assert code in ENDS
    assert code == {"check": 1, "data check": 0, "evaluate": 0, "leaderboard verify": 0}.get(name, code)
    assert told == ""


@pytest.mark.parametrize("name", QUICK)
def test_an_ascii_terminal(call: Callable, name: str, tmp_path: Path) -> None:
    with open(tmp_path / "terminal", "w", encoding="ascii") as terminal:
        code, told = call(name, stdout=terminal)
    assert code in ENDS
    assert told == ""
    printed = (tmp_path / "terminal").read_bytes()
    printed.decode("utf-8" if name == "table" else "ascii")  # a table is a file, and files are UTF-8
    assert printed


def test_closed_output(place: Path) -> None:
    for name in ("list", "rank"):
        command = [*PROGRAM, name, *COMMANDS[name].split()]
        done = subprocess.run(
            ["sh", "-c", '"$@" >&-', "sh", *command], cwd=place, capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 2
        one_sentence(done.stderr)
        assert "standard output is closed" in done.stderr
        done = subprocess.run(
            ["sh", "-c", '"$@" 2>&-', "sh", *command], cwd=place, capture_output=True, env=environment()
        )
        assert done.returncode == 0
        assert done.stdout


def test_json_is_utf8_whatever_the_terminal(place: Path) -> None:
    command = [*PROGRAM, "list", "metrics", "--json"]
    outputs = [
        subprocess.run(command, cwd=place, capture_output=True, check=True, env=environment(**more)).stdout
        for more in ({}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    ]
    assert outputs[0] == outputs[1] == outputs[2]
    assert outputs[0].decode()


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1", **more}


# --- Ctrl-C and no memory, at any moment


def raising(error: type[BaseException], at: int, calls: list[int]) -> Callable:
    """A profiler that raises at the so many-th call of a function of evalkit."""

    package = os.path.dirname(evalkit.__file__) + os.sep  # not what lies in a checkout of that name, such as this test

    def profile(frame, event: str, _) -> None:  # type: ignore[no-untyped-def]
        if event == "call" and frame.f_code.co_filename.startswith(package) and not ended(frame):
            calls[0] += 1
            if calls[0] == at:
                raise error

    def ended(frame) -> bool:  # type: ignore[no-untyped-def]
        if frame.f_code.co_name == "<genexpr>":  # Python swallows what is raised while one is thrown away
            return True
        return frame.f_code.co_filename.endswith(("program.py", "lock.py", "cli.py", "__init__.py"))

    return profile


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("name", QUICK)
def test_an_end_at_any_moment(call: Callable, name: str, error: type[BaseException]) -> None:
    calls = [0]
    call(name)  # what it imports is imported
    sys.setprofile(raising(error, -1, calls))
    try:
        assert call(name)[0] in ENDS
    finally:
        sys.setprofile(None)
    moments = sorted({max(1, round(calls[0] * share)) for share in (0.001, 0.3, 0.6, 0.9)})
    for moment in moments:
        sys.setprofile(raising(error, moment, [0]))
        try:
            code, told = call(name)
        finally:
            sys.setprofile(None)
        if code in ENDS and code != 2 and error is MemoryError:
            continue  # it was a missing value, or what raised was a repeat that needed less
        assert code == (130 if error is KeyboardInterrupt else 2), (moment, told)
        one_sentence(told)
        assert told.strip().startswith("Interrupted. ") if error is KeyboardInterrupt else "memory ran out" in told
    assert call(name)[0] in ENDS  # and then all is well


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    import evalkit.catalogue

    def wrong(*_: object) -> None:
        raise ZeroDivisionError("a fault of evalkit's own")

    monkeypatch.setitem(evalkit.catalogue.ENTRIES, "metrics", wrong)
    with pytest.raises(ZeroDivisionError):
        main(["list", "metrics"])


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        np._core._exceptions._ArrayMemoryError((10**9, 10**9), np.dtype(float)),
        OSError(12, "Cannot allocate memory"),
        IsADirectoryError(21, "Is a directory", "run/scores/TNO/average.csv.partial"),
        OutputError("x cannot be written"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_system_refuses_is_one_sentence(call: Callable, monkeypatch: pytest.MonkeyPatch, error) -> None:
    import evalkit.catalogue

    def wrong(*_: object) -> None:
        raise error

    monkeypatch.setitem(evalkit.catalogue.ENTRIES, "metrics", wrong)
    code, told = call("list")
    assert code == 2
    one_sentence(told)


def test_a_journal_that_is_a_folder(place: Path, tmp_path: Path, call: Callable) -> None:
    (tmp_path / "out0/scores/TNO/average.csv.partial").mkdir(parents=True)
    code, told = call("reproduce")
    assert code == 2
    one_sentence(told)
    assert "average.csv.partial" in told


# --- Ctrl-C in a terminal: every process of the command hears it


def interrupt(root: Path, seen: Path, *arguments: object) -> tuple[int, str]:
    """Start a command, send Ctrl-C to all its processes as soon as a file is there."""
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    try:
        for _ in range(600):
            if list(root.glob(str(seen))) or process.poll() is not None:
                break
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=180)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, told


def hears_ctrl_c(_: int) -> bool:
    time.sleep(0.05)  # so that every worker gets some
    return signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_no_worker_process_hears_ctrl_c_from_its_first_moment() -> None:
    """In a process of its own: what starts inside with the first workers must not make the others hear it."""
    program = (
        "from evalkit.engine.processes import in_processes\nfrom test_endings import hears_ctrl_c\n"
        "if __name__ == '__main__':\n    print(any(in_processes(hears_ctrl_c, range(12), 3)))"
    )
    here = {**environment(), "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=here)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_ctrl_c_with_worker_processes_and_then_on(tmp_path: Path) -> None:
    make_tno(tmp_path / "data", 25, 240, 320)
    make_outputs(tmp_path / "outputs", "CDDFuse", 25, 240, 320)
    options = ["--data-root", "data", "--datasets", "TNO", "--methods", "CDDFuse,average,laplacian", "--workers", 2]
    arguments = ["reproduce", "smfnet-table1", *options, "--outputs", "outputs", "--out", "run"]
    for seen in ("run/run.lock", "run/fused/*/TNO/*.png", "run/scores/TNO/*.partial"):
        code, told = interrupt(tmp_path, Path(seen), *arguments)
        assert code == 130, told
        one_sentence(told)
        assert "kept in run; the same command goes on from there" in told
    done = subprocess.run([*PROGRAM, *map(str, arguments)], cwd=tmp_path, capture_output=True, env=environment())
    assert done.returncode == 0, done.stderr


def test_a_worker_leaves_broken_connections_to_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning_fabric")
    from evalkit.training import data

    told: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: told.append(error))
    data._let_the_parent_tell(0)
    mistake = ValueError("a mistake")
    for error in (BrokenPipeError(), ConnectionResetError(), EOFError(), mistake):
        sys.excepthook(type(error), error, None)
    assert told == [mistake]


def test_ctrl_c_in_a_training(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    from test_training import tiny

    (tmp_path / "tiny.yaml").write_text(tiny().model_dump_json().replace('"epochs":', '"epochs":50', 1))
    arguments = ["train", "SMFNet", "--recipe", "tiny.yaml", "--sample", "--device", "cpu", "--out", "run"]
    code, told = interrupt(tmp_path, Path("run/log.csv"), *arguments, "--workers", 2)
    assert code == 130, told
    one_sentence(told.strip().splitlines()[-1])  # above it: the epochs
    assert "Traceback" not in told
    assert "Exception" not in told
    assert "kept in run; the same command goes on from there" in told


def test_more_devices_than_there_are() -> None:
    pytest.importorskip("lightning_fabric")
    from evalkit.errors import EvalkitError
    from evalkit.training.loop import start_fabric

    with pytest.raises(EvalkitError, match="--devices 9999: there are"):
        start_fabric("cpu", 9999, "32-true")
