"""The commands ``nhdata`` and ``nhmodel``: a file per command, each a thin layer over the Python API.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""
