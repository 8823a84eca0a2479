"""`evalkit` and `python -m evalkit`: the command line, where Ctrl-C is quiet even while its modules are imported."""

from __future__ import annotations

import atexit
import os
import signal

INTERRUPTED = 130


def main() -> None:
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from evalkit.cli import main as program  # a Ctrl-C meanwhile is quiet

    signal.signal(signal.SIGINT, before)
    try:
        program(prog_name="evalkit")
    except SystemExit as ended:
        if ended.code != INTERRUPTED:
            raise
        # Python takes a Ctrl-C that came inside eval(), as of named tuples, for one that nobody handled
        atexit._run_exitfuncs()
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
