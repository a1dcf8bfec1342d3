"""Methods that no other package holds: what a grid measures of training rows."""
