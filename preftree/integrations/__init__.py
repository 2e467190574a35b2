"""preftree inside other frameworks: a module for each, named after it. Importing this package imports none of them."""
