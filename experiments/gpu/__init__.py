"""What a machine with a GPU is asked once: python -m experiments.gpu."""
