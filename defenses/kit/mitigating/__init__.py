"""What a mitigation does where the rows that trials convict are not all of the poison."""
