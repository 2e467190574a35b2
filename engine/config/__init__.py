"""What a model is: sizes, architectures, rotary embeddings, and the files that say so."""
