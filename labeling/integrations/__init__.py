"""preftree inside other frameworks. Each module imports its framework only where it must."""
