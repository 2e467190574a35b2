"""One run judged by workers on a Ray cluster. Ray is imported when a run asks for it."""
