"""The input of these tests, and the labels that all ways must come to."""

from tests.labeling.rundir.runs import source, whole

__all__ = ["source", "whole"]
