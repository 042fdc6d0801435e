"""Writing an edited model for other programs, as an ordinary checkpoint."""
