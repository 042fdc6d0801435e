"""Out of bluedit: ordinary checkpoints, and models for lm-evaluation-harness."""
