"""The pictures of the documentation: `python -m tests.pictures` makes docs/images anew."""
