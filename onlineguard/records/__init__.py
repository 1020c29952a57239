"""Clicks, decisions and versions of models as they are sent, stored and published: structs that need msgspec alone."""
