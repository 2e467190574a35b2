"""A method is two pure functions: requests from a pair, a label from scores."""
