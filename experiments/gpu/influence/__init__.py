"""What influence costs on a GPU, and what TF32 and screening change."""
