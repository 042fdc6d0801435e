"""From facts to token rows: prompts, prefixes, chat forms, corpora, text sampled from the model."""
