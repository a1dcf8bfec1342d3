"""What is done in each kind of stage that judges a scene: one function per row of the table."""
