"""The optional parts, the packages that each needs, and one line where they are missing."""

from collections.abc import Sequence
from importlib.util import find_spec

from onlineguard.errors import MissingExtra

# By the names they are imported under; pyproject.toml has the same, by the names they are installed under.
PACKAGES = {
    "arrow": ("pyarrow",),
    "cli": ("polars", "rich", "typer"),
    "client": ("httpx2",),
    "excel": ("fastexcel", "polars"),
    "lz4": ("lz4",),
    "registry": ("fsspec",),
    "plot": ("matplotlib",),
    "kafka": ("confluent_kafka",),
    "ray": ("grpc", "ray"),
    "polars": ("polars",),
    "redis": ("hiredis", "redis"),
    "river": ("river",),
    "sklearn": ("sklearn",),
    "serve": ("httptools", "starlette", "uvicorn"),
    "slidr": ("optax", "polars", "scipy", "sklearn"),
}
INSTALLED_AS = {
    "confluent_kafka": "confluent-kafka",
    "grpc": "grpcio",
    "sklearn": "scikit-learn",
}  # where the names differ


def require(part: str, extra: str, packages: Sequence[str] = ()) -> None:
    """Raise MissingExtra, an ImportError, where a package that `part` needs is not installed. Nothing is imported.

    Looked for are those of the extra in `PACKAGES`, unless `packages` names others that the extra brings as well.
    """
    if missing := [name for name in packages or PACKAGES[extra] if find_spec(name) is None]:
        raise MissingExtra(part, [INSTALLED_AS.get(name, name) for name in missing], extra)
