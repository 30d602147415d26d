"""Bytes to columns and back: schema, chunk layout, index, writer, reader. Knows no thread but one.

`layout.py` holds the specification of the format.
"""
