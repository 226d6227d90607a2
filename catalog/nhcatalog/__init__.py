"""Which sessions and units a store holds, and how to ask for them in SQL.

Import what you need: ``nhcatalog.catalog`` (`Catalog`), ``nhcatalog.schema`` (every table and column) and
``nhcatalog.errors`` (`UserError`). This file imports nothing, so that the last stays cheap.
"""
