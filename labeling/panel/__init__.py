"""Several judges' labels of the same pairs, made into one label each."""
