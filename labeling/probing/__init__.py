"""What should not change a verdict, done to a pair to see whether it does."""
