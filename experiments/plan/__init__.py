"""From a grid file to values, stages and file names; nothing is computed here."""
