"""The windows of the counters, and the other numbers that every store shares; `counters` says what they mean."""

ENTITIES = ("user", "session", "ip", "prefix")
BUCKET_MS = 10_000  # the shortest bucket; all others are whole numbers of it
RINGS = ((1, 6), (6, 5), (30, 12), (360, 24), (8_640, 7))  # buckets of a window: length in shortest buckets, number
WINDOWS = ("1m", "5m", "1h", "24h")
WEEK = "7d"  # the last ring
LASTING = (
    "ip",
)  # whose week is counted: of all others it added nothing to what a day tells, and would have to be kept
HOUR_MS = 3_600_000
FIRST = 24 * HOUR_MS  # milliseconds since the last click where there is none
CAP = 256  # distinct users or sessions of an ip, at most

# Pauses: gaps between two clicks of an entity, of less than half an hour, by which logs are usually cut into visits.
# Sixteen are remembered: enough for a variance, and not so many that an ip or user of yesterday outweighs today's.
PAUSE_MS = HOUR_MS // 2
PAUSES = 16
OCTAVE = 64  # units of a pause's logarithm in a doubling: 1.6 % of a pause at most
# The variance that is thought of an entity before it has shown any pause, which counts as much as two pauses: that of a
# deviation of 1.4 octaves, a factor of 2.7, between those of scripts and of people.
PRIOR_PAUSES, PRIOR_SPREAD = 2, 90**2
LATEST = 2**31 * BUCKET_MS - 96 * HOUR_MS  # ms since 1970 that the shortest buckets can be numbered to: the year 2650

AHEAD_MS = HOUR_MS // 2  # a time zone mistaken by an hour is far ahead
BEHIND_MS = 24 * HOUR_MS
STEP_MS = 60_000  # the n-th far click in a row moves the clock by at most 2^n of it
DUPLICATE_HOURS = 24
KEEP_HOURS = 50  # 24 h that a click may be behind, 25 h until windows are empty, half an hour ahead; see `EntityTable`
LONGER_HOURS = 6 * 24  # so much longer a week is kept than a day

OF_EACH = (*WINDOWS, "since", "spread")
OF_AD = ("clicks", "signed", "unknown")  # counts of an ad's 24 h: all, of visitors signed in, and of unknown users
COLUMNS = (
    *(f"{entity}_{what}" for entity in ENTITIES for what in OF_EACH),
    *(f"{entity}_{WEEK}" for entity in LASTING),
    *("ip_users_1h", "ip_users_24h", "ip_sessions_1h", "ip_sessions_24h", "ip_users_largest", "ip_sessions_largest"),
    *(f"ad_{what}_24h" for what in OF_AD),
)
