"""The forward pass: layers, rotary embeddings, keys and values."""
