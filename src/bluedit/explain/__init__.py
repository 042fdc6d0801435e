"""Explanations: why an edit needs what it needs, and does what it does."""
