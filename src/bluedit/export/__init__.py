"""Writing an edited model for other programs: ordinary checkpoints."""
