"""Every option, once: flags of the command line, keys of a --config file, `options` in run.json, Python objects."""
