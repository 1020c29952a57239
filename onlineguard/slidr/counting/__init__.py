"""Counters of clicks by user, session, ip and prefix."""
