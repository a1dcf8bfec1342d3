"""What one of many copies of an instance is worth, and what all of them are."""
