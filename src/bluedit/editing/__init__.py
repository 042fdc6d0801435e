"""Editing a model safely: the editor, transactions, patches, undo."""
