"""The command line, a module for each kind of command. They import what is heavy when they run."""
