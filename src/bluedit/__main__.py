"""The command `bluedit`, also as `python -m bluedit`."""

import sys
from typing import NoReturn

from bluedit.interrupts import EXIT_CODE, Told, attend, ignore, was_interrupted


def main() -> None:
    """Run a command. An interrupt ends with a sentence even while modules are still being imported, or when the command has just finished."""
    attend()
    try:
        from bluedit.cli.app import main as run

        run()
    except (KeyboardInterrupt, Exception) as error:
        if not was_interrupted(error):
            raise
        _tell()
    except SystemExit as end:  # typer ends without a word where it is interrupted itself
        ignore()
        if end.code == EXIT_CODE and not isinstance(end, Told):
            _tell()
        raise
    ignore()


def _tell() -> NoReturn:
    ignore()
    commands = sys.modules.get("bluedit.cli.commands")
    done = getattr(commands, "done", None)  # missing while it is being imported
    sys.stderr.write(f"bluedit: interrupted; {done() if done else 'nothing was changed'}\n")
    raise Told


if __name__ == "__main__":
    main()
