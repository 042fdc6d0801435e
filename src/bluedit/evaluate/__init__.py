"""What a model says: scoring answers, perplexity, and the report of an edit."""
