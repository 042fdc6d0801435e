"""The command `bluedit`, also as `python -m bluedit`."""

import sys


def main() -> None:
    """Run a command. An interrupt ends with a sentence even while modules are still being imported."""
    try:
        from bluedit.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("bluedit: interrupted; nothing was changed\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
