"""Compiles evalkit/compiled/kernels.c when evalkit is installed; without a C compiler it is installed all the same.

`python hatch_build.py` does so in place, for working on a clone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

# two dots: not the name of a module of Python's
NAME = {"win32": "kernels.c.dll", "darwin": "kernels.c.dylib"}.get(sys.platform, "kernels.c.so")
FLAGS = ["-std=gnu99", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared"]


def compile_kernels(root: Path) -> Path | None:
    """The library beside its source, or None where there is no compiler that takes it; says which."""
    folder = root / "evalkit" / "compiled"
    source, library = folder / "kernels.c", folder / NAME
    named = os.environ.get("CC", "").split()
    compiler = named or next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), [])
    if not compiler:
        print("evalkit: no C compiler: metrics will take up to three times as long", file=sys.stderr)
        return None
    sha = hashlib.sha256(source.read_bytes()).hexdigest()
    part = library.with_name(f"{NAME}.{os.getpid()}")
    command = [*compiler, *FLAGS, f'-DSOURCE="{sha}"', "-o", str(part), str(source), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        print(f"evalkit: {' '.join(compiler)} cannot be run ({error})", file=sys.stderr)
        return None
    if done.returncode:
        print(f"evalkit: {' '.join(command)} failed, metrics will take longer:\n{done.stderr}", file=sys.stderr)
        part.unlink(missing_ok=True)
        return None
    part.replace(library)
    return library


if __name__ == "__main__":
    made = compile_kernels(Path(__file__).parent)
    print(made or "not compiled")
    sys.exit(made is None)

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # read by something else than a build
    pass
else:

    class KernelsHook(BuildHookInterface):
        """Puts the library into the wheel, which is then of this platform, whatever the version of Python."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            if self.target_name == "wheel" and compile_kernels(Path(self.root)):
                platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
                build_data["artifacts"].append(f"evalkit/compiled/{NAME}")
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{platform}"
