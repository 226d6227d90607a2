"""International Brain Laboratory: ALF folders, the public release, the compact archive."""
