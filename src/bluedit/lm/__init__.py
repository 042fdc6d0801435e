"""The model as an editable memory: loading, anatomy, prompts, reading activations, key statistics."""
