"""A file of keys."""

from pathlib import Path

from onlineguard_service.http.auth import new_key


def keys_file(
    folder: Path, namespaces: dict[str, str] | None = None, **scopes: list[str]
) -> tuple[Path, dict[str, str]]:
    """The file, and the keys by name; `namespaces`: those of keys that have one."""
    made = {name: new_key(name, listed, (namespaces or {}).get(name, "")) for name, listed in scopes.items()}
    path = folder / "keys.toml"
    path.write_text("\n".join(lines for _, lines in made.values()))
    return path, {name: key for name, (key, _) in made.items()}
