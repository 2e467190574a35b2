"""Token ids in, log-probabilities out: prompts as a trie, every unique token through the model once.

The public names are those of `preftree`.
"""
