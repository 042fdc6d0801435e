"""Finding hyperparameters for a model: layers from `locate`, numbers from a search."""
