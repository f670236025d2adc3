"""The only layer with state, threads, processes and files."""
