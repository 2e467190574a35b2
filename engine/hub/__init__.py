"""Models and data sets by their names on the Hugging Face hub: in the local cache, else downloaded, never code."""
