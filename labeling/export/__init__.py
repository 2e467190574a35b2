"""Labels as training data, in the shapes that trainers read."""
