"""The service as a receiver of delayed decisions, beside the file and the stream of `slidr.replay.publishing`.

It needs no marks. What a replay published already is in the history that it reads once the service has made files of
it, and is in force: the decision is the one that it would replace, and is not sent. What is not yet in files is sent
again, and the service says that it has it.
"""

from collections import Counter

from onlineguard.client.sync import Client
from onlineguard.records.decisions import Decision, Marks


class Service:
    """See this module. `told` counts what became of the decisions, `unknown` those of clicks that are forgotten."""

    def __init__(self, client: Client):
        self._client = client
        self.told: Counter[str] = Counter()
        self.unknown = 0

    def marks(self) -> Marks:
        """See `Receiver`."""
        return {}

    def publish(self, decisions: list[Decision], marks: Marks) -> None:
        """See `Receiver`. Raises ServiceError where the service refuses them."""
        new = [decision for decision in decisions if decision.standing != decision.replaces]
        answers = self._client.decisions(new)
        self.told.update(answer.outcome for answer in answers)
        self.unknown += sum(not answer.known for answer in answers)
