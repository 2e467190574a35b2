"""All evidence from a machine with a GPU in one command: python -m benchmarks.gpu --out DIR

What a run does, in order, is listed in `benchmarks.gpu.plan`. A supervisor (`supervisor`) starts a worker (`worker`)
that takes the steps one by one and rewrites the report after each; should the worker crash or hang, the supervisor
notes it and starts another one on the rest.
"""
