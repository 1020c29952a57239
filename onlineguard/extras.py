"""The optional parts, the packages that each needs, and one line where they are missing."""

from importlib.util import find_spec

from onlineguard.errors import MissingExtra

# By the names they are imported under; pyproject.toml has the same, by the names they are installed under.
PACKAGES = {
    "cli": ("rich", "typer"),
    "client": ("httpx2",),
    "redis": ("hiredis", "redis"),
    "river": ("river",),
    "serve": ("httptools", "prometheus_client", "starlette", "uvicorn"),
    "slidr": ("optax", "scipy", "sklearn"),
}
INSTALLED_AS = {"prometheus_client": "prometheus-client", "sklearn": "scikit-learn"}  # where the names differ


def require(part: str, *extras: str) -> None:
    """Raise MissingExtra, an ImportError, where a package that `part` needs is not installed. Nothing is imported."""
    missing = {extra: [name for name in PACKAGES[extra] if find_spec(name) is None] for extra in extras}
    if any(missing.values()):
        names = [INSTALLED_AS.get(name, name) for lacking in missing.values() for name in lacking]
        raise MissingExtra(part, names, [extra for extra, lacking in missing.items() if lacking])
