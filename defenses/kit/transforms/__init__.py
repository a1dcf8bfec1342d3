"""What is done to instances to see what a prediction hangs on: a file per kind, and their table."""
