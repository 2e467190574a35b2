"""preftree beside other engines on a CPU: transformers, vLLM and OpenVINO GenAI, with the same token ids.

Nothing is imported here: workers of other environments import this package, too.
"""
