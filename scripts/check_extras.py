"""Every extra in a fresh environment: does it install, does `pip check` agree, does it work, how large is it?

    python scripts/check_extras.py                 # all of them
    python scripts/check_extras.py base xlsx       # these: evalkit without an extra, and xlsx
    python scripts/check_extras.py --write         # nothing is installed: put what was found into docs/packaging.md

What is found, the licences of all packages with it, goes into docs/extras.json. Needs a package index, and disk for one
environment at a time, which is removed when it was checked.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import venv
from pathlib import Path
from typing import Any

from generated_page import GeneratedPage

from evalkit.files.write import write_text

ROOT = Path(__file__).resolve().parents[1]
FACTS = ROOT / "docs" / "extras.json"
MB = 1e6
SCENES = "evalkit data sample data --count 3 --size 96x72"
FUSED = "for m in average maximum; do evalkit fuse $m --data-root data --dataset samples --out fused; done"
EVALUATE = (
    "evalkit evaluate A=fused/average/samples B=fused/maximum/samples "
    "--infrared data/samples/ir --visible data/samples/vi --metrics EN,VIF --out run"
)
TENSORS = """python -c "
import torch
from evalkit.metrics.torch import evaluate
x = torch.arange(9216, dtype=torch.uint8).reshape(1, 96, 96)
assert evaluate(x, x, x.flip(1), metrics=['EN', 'MI'], convention='smfnet')['EN'][0] > 7
" """
STEPS = "--sample --recipe small --methods average --steps 1"
SMOKE = {  # extra -> what it is for
    "": [
        "python -m evalkit --version",
        *(FUSED, EVALUATE),
        "evalkit rank run",
        "evalkit reproduce smfnet-table1 --sample",
    ],
    "networks": [TENSORS],
    "training": [f"evalkit reproduce smfnet-table1 {STEPS} --train".replace("average", "SMFNet")],
    "detection": [f"evalkit reproduce smfnet-table2 {STEPS}"],
    "segmentation": [f"evalkit reproduce psfusion-table1 {STEPS}"],
    "cluster": [
        f"evalkit reproduce smfnet-table1 {STEPS.partition(' --recipe')[0]} --methods average --engine dask --workers 2"
    ],
    "xlsx": [FUSED, EVALUATE, "evalkit table run --format xlsx --out table.xlsx"],
    "docs": [f"mkdocs build --strict --quiet --config-file {ROOT}/mkdocs.yml --site-dir $PWD/site"],
}
SMOKE["all"] = [
    command for extra in ("networks", "training", "detection", "segmentation", "xlsx") for command in SMOKE[extra]
]
ORDER = ["base", "xlsx", "cluster", "docs", "networks", "training", "detection", "segmentation", "all"]
README = (ROOT / "README.md").read_text(encoding="utf-8").split("```\n")[2]  # what its first command prints
ABOUT_LICENCES = (
    "As the packages state them themselves, in their metadata or at the head of the licence they come with."
)
LICENCES = """
import importlib.metadata as m, json
def of(d):
    t = d.metadata
    named = [c.split(" :: ")[-1] for c in t.get_all("Classifier", []) if c.startswith("License :: ")]
    texts = [t.get("License") or "", *(d.read_text("licenses/" + n) or "" for n in t.get_all("License-File", []))]
    lines = [line.strip() for text in texts for line in text.split("\\n")]  # some have the whole licence there
    first = next((line for line in lines if line and not line.startswith("Copyright")), "")[:80]
    return t["Name"], d.version, t.get("License-Expression") or " / ".join(named) or first
own = ("pip", "setuptools", "evalkit")
print(json.dumps(sorted(of(d) for d in m.distributions() if d.metadata["Name"] not in own)))
"""


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def run(command: list[str] | str, folder: Path, environment: dict[str, str]) -> str:
    """What a command printed. Raises SystemExit with what it said where it fails."""
    shell = isinstance(command, str)
    done = subprocess.run(
        command, shell=shell, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def check(extra: str, source: str) -> dict[str, Any]:
    """Install one extra and try it; sizes are of the packages without pip, and of evalkit itself."""
    with tempfile.TemporaryDirectory(prefix="evalkit-extra-") as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv" / "bin"
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        environment = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "EVALKIT_CACHE": str(folder / "cache"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        before = size(packages)
        run(
            ["pip", "install", "--quiet", "--no-compile", f"{source}[{extra}]" if extra else source],
            folder,
            environment,
        )
        installed = size(packages) - before
        agreed = run(["pip", "check"], folder, environment).strip()
        licences = json.loads(run(["python", "-c", LICENCES], folder, environment))
        own = size(packages / "evalkit")
        printed = [run(command, folder, environment) for command in (SCENES, *SMOKE[extra])]
        if not extra and README not in printed[-1]:
            raise SystemExit(f"README.md does not say what its first command prints:\n{printed[-1]}")
    return {
        "packages": len(licences) + 1,
        "mb": round(installed / MB),
        "evalkit_mb": round(own / MB, 1),
        "pip_check": agreed,
        "tried": [command.replace(str(ROOT), ".") for command in SMOKE[extra]],
        "python": platform.python_version(),
        "licences": licences,
    }


def table() -> str:
    """What docs/extras.json says: a row per extra, and the licences of all packages."""
    facts = json.loads(FACTS.read_text(encoding="utf-8"))
    base = facts["base"]
    about = (
        f"All that pip installs, without Python's compiled bytecode; evalkit itself is {base['evalkit_mb']} MB of it. "
        f"Python {base['python']}, x86-64 Linux; PyTorch in its build for processors: CUDA needs several GB more."
    )
    lines = ["| extra | packages | MB | `pip check` |", "|---|--:|--:|---|"]
    lines += [
        f"| {'none' if extra == 'base' else f'`{extra}`'} | {one['packages']} | {one['mb']} | {one['pip_check']} |"
        for extra, one in sorted(facts.items(), key=lambda item: ORDER.index(item[0]))
    ]
    needed: dict[tuple[str, str, str], list[str]] = {}
    for extra in sorted(facts, key=ORDER.index):
        for name, version, licence in facts[extra]["licences"]:
            needed.setdefault((name, version, licence), []).append(extra)
    of_base = {key for key, extras in needed.items() if "base" in extras}
    parts = [about, "\n".join(lines), "## Licences", ABOUT_LICENCES]
    for title, keys in (("Of evalkit without an extra", of_base), ("Of the extras", needed.keys() - of_base)):
        lines = ["| package | version | licence | of |", "|---|---|---|---|"]
        for key in sorted(keys, key=lambda key: (key[0].lower(), key[1])):
            extras = "all installations" if key in of_base else ", ".join(needed[key])
            lines.append(f"| {key[0]} | {key[1]} | {key[2].replace('|', '/') or 'not stated'} | {extras} |")
        parts += [f"### {title}", "\n".join(lines)]
    return "\n\n".join(parts)


PAGE = GeneratedPage("packaging.md", "## Sizes", table)


def main() -> None:
    """Check the extras named, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="all when not given")
    parser.add_argument(
        "--write", action="store_true", help="docs/packaging.md from docs/extras.json; nothing is installed"
    )
    parser.add_argument("--wheel", default=str(ROOT), help="what is installed; this checkout when not given")
    options = parser.parse_args()
    if options.write:
        PAGE.main()
        return
    for extra in options.extras or ORDER:
        checked = check("" if extra == "base" else extra, options.wheel)
        facts = json.loads(FACTS.read_text(encoding="utf-8")) if FACTS.is_file() else {}  # now: others may have written
        facts[extra] = checked
        write_text(FACTS, json.dumps(facts, indent=1, sort_keys=True) + "\n")
        print(extra, {key: facts[extra][key] for key in ("packages", "mb", "evalkit_mb", "pip_check")}, flush=True)


if __name__ == "__main__":
    main()
