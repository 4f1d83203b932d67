"""A repository of results: one folder an entry, checked before it comes in and whenever it is read."""
