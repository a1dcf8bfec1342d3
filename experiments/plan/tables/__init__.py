"""Tables of a grid file that are no methods."""
