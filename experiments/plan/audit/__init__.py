"""What an audit is of: a finished model, its data, and the points to judge."""
