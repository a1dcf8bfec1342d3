"""The steps of each optimiser on parameters by name, and their derivatives backwards."""
