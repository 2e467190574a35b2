"""What methods say of samples, and the arithmetic behind it."""
