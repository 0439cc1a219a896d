"""The numeric coder: code tables, and streams of elements coded with them.

The format is FORMAT.md, "Code tables" and "Streams".
"""
