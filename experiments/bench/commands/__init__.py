"""The commands of `python -m experiments.bench`, by what is measured."""
