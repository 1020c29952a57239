"""Admission: whether a request may be answered, by its key, its rate, its namespace and the site that it comes from."""

import logging
from collections.abc import Callable

from starlette.types import Scope

from onlineguard.wire.operations import Operation
from onlineguard_service.config import Settings
from onlineguard_service.http.auth import ApiKeys, Caller
from onlineguard_service.http.limits import RateLimit, is_local, network
from onlineguard_service.http.problems import Refused, retry_after, shown

NAMESPACE = b"x-namespace"  # the header in which an admin names one

_audit = logging.getLogger("onlineguard_service.audit")


class Admission:
    """See this module. `called` is told the name of the key of every request that is admitted by one."""

    def __init__(self, settings: Settings, called: Callable[[str], None]):
        self._settings, self._called = settings, called
        self.read_keys()
        self._local_only = not self.keyed and is_local(settings.host) and settings.host not in ("0.0.0.0", "::")
        self._rate = RateLimit(settings.rate_limit) if settings.rate_limit > 0 else None

    def read_keys(self) -> None:
        """Read the file of API keys, if there is one. Raises InvalidArgument, and the keys stay as they were."""
        self._keys = ApiKeys.load(self._settings.keys) if self._settings.keys is not None else None

    @property
    def keyed(self) -> bool:
        """Whether requests need a key."""
        return self._keys is not None

    def client(self, scope: Scope) -> str | None:
        """By whose turns a request is answered: the name of its key; None: it has none that is known."""
        caller = None if self._keys is None else self._caller(_key(scope))
        return None if caller is None else f"key {caller.name}"

    def _caller(self, key: bytes | None) -> Caller | None:
        return None if self._keys is None or key is None else self._keys.find(key)

    def admit(self, scope: Scope, operation: Operation) -> bytes:
        """The content type of a request that may be answered. Raises Refused for a wrong key, or too many requests."""
        content_type, host, origin, asked, needed = b"", b"", None, "", operation.scope
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"host":
                if host:
                    raise Refused(400, "the request has two headers Host; it must have one")
                host = value
            elif name == b"origin":
                origin = value
            elif name == NAMESPACE:
                asked = value.decode("latin-1")
        if needed is None:
            return content_type
        key = None if self._keys is None else _key(scope)
        caller = self._caller(key)
        if self._rate is not None:
            client = scope.get("client")
            if caller is None:
                counted_as = " " + network(client[0] if client else "")
            else:
                counted_as = f" namespace {caller.namespace}" if caller.namespace else caller.name
            if (seconds := self._rate.wait(counted_as)) > 0.0:
                limit = self._settings.rate_limit
                raise Refused(429, f"more than {limit:g} requests a second; wait {seconds:.3g} s", retry_after(seconds))
        if self._keys is None:
            if asked:
                raise Refused(422, f"the namespace {shown(asked)} is unknown: there are no keys, which would name some")
            self._check_site(host.decode("latin-1"), origin)
            self._note(None, scope, needed)
            return content_type
        challenge = [(b"www-authenticate", b'Bearer realm="onlineguard"')]
        if key is None:
            raise Refused(401, "a key is needed: send it as Authorization: Bearer KEY, or as X-API-Key: KEY", challenge)
        if caller is None:
            raise Refused(401, "the key is unknown", challenge)
        if needed not in caller.scopes:
            raise Refused(403, f"the key {caller.name} has not the scope {needed}; it has {_listed(caller.scopes)}")
        scope["namespace"] = self._namespace(caller, asked, operation)
        self._note(caller.name, scope, needed)
        return content_type

    def _namespace(self, caller: Caller, asked: str, operation: Operation) -> str:
        """The namespace that a request is about: the caller's, or the one that an admin asks for; "" for none."""
        assert self._keys is not None
        namespace = caller.namespace or asked
        if caller.namespace and asked not in ("", caller.namespace):
            raise Refused(403, f"the key {caller.name} is confined to the namespace {caller.namespace}")
        if namespace and not operation.apart:
            raise Refused(403, f"{operation.path} is about the whole service, and no namespace has one of its own")
        if asked and not caller.namespace:
            if "admin" not in caller.scopes:
                raise Refused(403, f"the key {caller.name} has not the scope admin, which may name a namespace")
            if asked not in self._keys.namespaces:
                raise Refused(404, f"no key has the namespace {shown(asked)}")
        return namespace

    def _note(self, caller: str | None, scope: Scope, needed: str) -> None:
        """Count a request of a key, and log one that changes the service."""
        if caller is not None:
            self._called(caller)
        if needed == "admin":
            scope["caller"] = caller
            client = scope.get("client")
            told = {"route": scope["path"], "key": caller, "address": client[0] if client else None}
            _audit.info("an action that needs the scope admin", extra=told)

    def _check_site(self, host: str, origin: bytes | None) -> None:
        """Raises Refused for a request that a page of another site had a browser send, where no key protects from it.

        Such a page names its own site as the origin. Or its name was made to point to this machine; then Host has it.
        """
        if host and self._local_only and not is_local(host) and host.partition(":")[0] not in self._settings.hosts:
            raise Refused(421, f"the host {shown(host)} is not this service; if it is, name it in the setting hosts")
        if origin is not None and origin.partition(b"//")[2].decode("latin-1") != host:
            raise Refused(
                403, "the request comes from a page of another site; requests of pages need a key, see --keys"
            )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _key(scope: Scope) -> bytes | None:
    """The key that a request came with."""
    key = None
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            key = value
        elif name == b"authorization" and key is None and value[:7].lower() == b"bearer ":
            key = value[7:].strip()
    return key
