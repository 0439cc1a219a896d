"""The changes of the catalog's tables, each built on the one before."""
