"""Template files: what they may say, and where they are wrong."""
