"""Models, a folder each."""
