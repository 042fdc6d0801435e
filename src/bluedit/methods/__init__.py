"""Methods as data: recipes, the presets, and tunings for models."""
