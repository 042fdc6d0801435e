"""A causal language model as an editable memory: loading, structure, hooks, fingerprints."""
