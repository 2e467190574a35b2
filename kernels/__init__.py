"""Tensors in, tensors out: the operations of the forward pass. Imports torch and triton only."""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from os.path import abspath, dirname


def _give_way() -> None:
    """Stand back for another distribution's package `kernels`.

    With a checkout of preftree on sys.path, `import kernels` finds this folder, and so do libraries that look whether
    the other distribution is installed. They get it if it is; else something without file and contents, as a folder
    without code would be, which they take for what it is.
    """
    here = dirname(dirname(abspath(__file__)))
    spec = PathFinder.find_spec(__name__, [place for place in sys.path if abspath(place) != here])
    if spec is None or spec.loader is None:
        globals().update(__file__=None, __path__=[])
        return
    sys.modules[__name__] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ != "preftree.kernels":
    _give_way()
