"""The environment: made, filled and kept by ``start.py``. It needs the standard library alone."""
