"""Which judge agrees most with people: models, templates and methods side by side on rows with gold."""
