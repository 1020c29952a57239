"""Counters of clicks by user, session, ip, prefix and ad."""
