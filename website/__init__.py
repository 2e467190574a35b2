"""The documentation as a website: `make docs`. Not installed; only mkdocs imports it."""
