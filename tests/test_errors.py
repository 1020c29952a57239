import pickle

import pytest

from onlineguard.errors import InvalidArgument


class OwnMistake(InvalidArgument):
    pass


@pytest.mark.parametrize("kind", [InvalidArgument, OwnMistake])
@pytest.mark.parametrize(
    ("parts", "argument", "problem"),
    [
        (("events[3].x", "has 2 numbers; this stream has 3"), "events[3].x", "has 2 numbers; this stream has 3"),
        (("two arguments contradict each other",), None, "two arguments contradict each other"),
    ],
)
def test_a_mistake_keeps_its_argument_also_through_a_pickle(kind, parts, argument, problem):
    for error in (kind(*parts), pickle.loads(pickle.dumps(kind(*parts)))):
        assert type(error) is kind
        assert (error.argument, error.problem, str(error)) == (argument, problem, " ".join(parts))
