"""What the engine watches of each slice of clicks beside the network's decision: the counters that show its pace.

The engine knows no labels. It learns what these features usually are in a slice, and says how unusual a click's are.
"""

from onlineguard.slidr.features import NAMES

WATCHED = ("user_clicks_1h", "session_clicks_1h", "ip_clicks_1h", "prefix_clicks_1h", "ip_since", "prefix_since")
COLUMNS = tuple(NAMES.index(name) for name in WATCHED)  # where they stand among all features
UNUSUAL = 0.01  # share of usual clicks that the engine may find unusual
