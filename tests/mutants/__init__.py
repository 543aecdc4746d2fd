"""Mutation testing of `derive` and `streaming`: do the tests notice when the code is wrong?

``python -m tests.mutants`` breaks a copy of the source in one place at a time and runs test files on it, the likeliest
first, until one fails. What none of them notices is printed. Not run by the suite: it takes an hour.
"""
