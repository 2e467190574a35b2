"""GGUF files: header, tensors, config and tokenizer."""
