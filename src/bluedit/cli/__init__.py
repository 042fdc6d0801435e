"""The command `bluedit`."""
