"""Prompt templates: files, their parser, and the catalogue of built-in ones."""
