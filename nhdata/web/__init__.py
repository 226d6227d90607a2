"""``nhdata serve``: a store in a browser, on this machine only."""
