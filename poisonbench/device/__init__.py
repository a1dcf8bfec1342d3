"""What is asked of a device, and what it answers: its precision, and its errors."""
