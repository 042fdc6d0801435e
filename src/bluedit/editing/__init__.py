"""Doing it safely: the editor's transaction, patches, undo."""
