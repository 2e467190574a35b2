"""Training data for a principle-following reward model."""
