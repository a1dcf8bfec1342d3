"""Scenes as tasks of a Ray cluster."""
