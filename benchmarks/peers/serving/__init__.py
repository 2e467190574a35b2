"""What runs in the process of a contestant, under the interpreter of its own environment."""
