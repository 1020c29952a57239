"""Models of one slice, all behind one protocol."""
