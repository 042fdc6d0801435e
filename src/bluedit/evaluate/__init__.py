"""Measuring a model: scoring answers, generating text, perplexity and drift; suites of metrics; the report of an edit."""
