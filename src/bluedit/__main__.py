"""`python -m bluedit` is the command `bluedit`."""

from bluedit.cli.app import main

main()
