"""What a cleaning is of: a training set, a recipe, and the criteria by which rows are removed."""
