"""The list of what a grid can name, read without importing torch."""
