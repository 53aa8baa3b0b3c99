"""The steps of `make setup`.

Standard library and Python 3.7's syntax only, so that an old Python can still say what is missing.
"""
