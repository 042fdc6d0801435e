"""Writing a batch of facts: targets, keys, the loop, and the weights that change."""
