"""Cleaning: unhelpful and memorised rows are found and removed, and the model trained again."""
