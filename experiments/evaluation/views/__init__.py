"""What a reader asks of the rows: some of them, means over others, their order, a frame."""
