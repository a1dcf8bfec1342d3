"""What influence says of models that have learned random labels by heart."""
