"""The windows of the counters, and the other numbers that every store shares; `counters` says what they mean."""

ENTITIES = ("user", "session", "ip", "prefix")
BUCKET_MS = 10_000  # the shortest bucket; all others are whole numbers of it
RINGS = ((1, 6), (6, 5), (30, 12), (360, 24))  # a window's buckets: length in shortest buckets, number
WINDOWS = ("1m", "5m", "1h", "24h")
HOUR_MS = 3_600_000
FIRST = 24 * HOUR_MS  # milliseconds since the last click where there is none
CAP = 256  # distinct users or sessions of an ip, at most
LATEST = 2**31 * BUCKET_MS - 96 * HOUR_MS  # ms since 1970 that the shortest buckets can be numbered to: the year 2650

AHEAD_MS = HOUR_MS // 2  # a time zone mistaken by an hour is far ahead
BEHIND_MS = 24 * HOUR_MS
STEP_MS = 60_000  # the n-th far click in a row moves the clock by at most 2^n of it
DUPLICATE_HOURS = 24
KEEP_HOURS = 50  # 24 h that a click may be behind, 25 h until windows are empty, half an hour ahead; see `EntityTable`

COLUMNS = (
    *(f"{entity}_{what}" for entity in ENTITIES for what in (*WINDOWS, "since")),
    *("ip_users_1h", "ip_users_24h", "ip_sessions_1h", "ip_sessions_24h", "ip_users_largest", "ip_sessions_largest"),
)
