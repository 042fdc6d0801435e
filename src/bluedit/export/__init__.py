"""Out of bluedit: ordinary checkpoints."""
