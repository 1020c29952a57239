"""How a standby stands: what the thread that follows the journal tells the HTTP layer, and the command to take over."""

import time
from threading import Event


class Standing:
    """See this module."""

    def __init__(self) -> None:
        self.sequence: int | None = None  # of the newest entry that was applied; None before there is a state
        self.behind_since: float | None = None  # monotonic; None where all that was found is applied
        self.now, self.ended = Event(), Event()  # take over; it has, or leaves

    @property
    def lag(self) -> float:
        """Seconds since which there have been entries that are not applied yet."""
        return 0.0 if self.behind_since is None else time.monotonic() - self.behind_since

    @property
    def reason(self) -> str:
        """Why requests are not answered."""
        if self.sequence is None:
            return "standby: it waits for the state of the service that it follows"
        return f"standby: it follows the service that writes the journal, and has applied entry {self.sequence}"

    @property
    def follows(self) -> bool:
        """Whether it has not taken over yet."""
        return not self.ended.is_set()
