"""Files in, parts out: configuration, weights, tokenizer, chat template."""
