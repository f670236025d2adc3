"""The stages, one small pure function each, grouped as the settings are. They take values and return new ones."""
