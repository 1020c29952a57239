"""The files that put the service in place, and its page of documentation, held against the service itself."""

import asyncio
import importlib.util
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import threading
import tomllib
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import yaml
from onlineguard_service import config
from onlineguard_service.http.app import application
from onlineguard_service.http.openapi import document
from onlineguard_service.journal.folder_journal import FolderJournal
from onlineguard_service.partitions.urls import parsed
from onlineguard_service.redis.worker import WorkerSettings
from starlette.routing import Match

from onlineguard.compilation import VARIABLE
from onlineguard.engine.arguments import named_model, row_bytes
from onlineguard.records.click import Click
from onlineguard.wire.requests import Event, Label
from tests.support.double import Double
from tests.support.exported import RULES, SHARDS, check, metrics
from tests.support.redis_server import CI
from tests.support.worker_flags import told

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "service" / "deploy"
DOCKERFILE = (ROOT / "service" / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "service" / "compose.yaml").read_text("utf-8"))
SCRAPE = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))
UNIT = (DEPLOY / "onlineguard.service").read_text("utf-8")
PAGE = (ROOT / "docs" / "service.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
FILES = (
    ".dockerignore",
    "service/Dockerfile",
    "service/compose.yaml",
    *(f"service/deploy/{path.name}" for path in sorted(DEPLOY.iterdir())),
)

SETTINGS = {config.PREFIX + name.upper() for name in config.FIELDS} | {config.CONFIG}
CLIENTS = {"ONLINEGUARD_URL", "ONLINEGUARD_API_KEY"}  # what a worker reads, and a client
PROCESSES = {VARIABLE}  # what every process reads that runs compiled programs
API = msgspec.json.decode(document(True))


def dockerfile(word: str) -> list[str]:
    """What follows an instruction, for each time that it stands in the last stage."""
    text = DOCKERFILE.rpartition("\nFROM ")[2].replace("\\\n", " ")
    return [found.strip() for found in re.findall(rf"^{word}\s+(.*)$", text, re.MULTILINE)]


def dockerfile_environment() -> dict[str, str]:
    return dict(pair.partition("=")[::2] for line in dockerfile("ENV") for pair in shlex.split(line))


def unit(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)


def unit_environment() -> dict[str, str]:
    return dict(pair.partition("=")[::2] for line in unit("Environment") for pair in shlex.split(line))


def env_file(commented: bool) -> dict[str, str]:
    lines = (DEPLOY / "onlineguard.env").read_text("utf-8").splitlines()
    pairs = (line.lstrip("#") if commented else line for line in lines)
    return dict(line.partition("=")[::2] for line in pairs if line.startswith("ONLINEGUARD_"))


def shown(arguments: list[str], environment: dict[str, str]) -> str:
    """`onlineguard ARGUMENTS --show-config` under just this environment."""
    ours = {name: value for name, value in environment.items() if name.startswith(config.PREFIX)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(config.PREFIX)}
    done = subprocess.run(
        [sys.executable, "-m", "onlineguard", *arguments, "--show-config"],
        env=kept | ours,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_images_command_and_environment_are_what_serve_takes():
    [entrypoint], [command] = dockerfile("ENTRYPOINT"), dockerfile("CMD")
    assert msgspec.json.decode(entrypoint) == ["onlineguard"]
    told = shown(msgspec.json.decode(command), dockerfile_environment())
    assert 'host = "0.0.0.0"  # environment ONLINEGUARD_HOST' in told
    assert 'state = "/var/lib/onlineguard"  # environment ONLINEGUARD_STATE' in told


def test_the_image_runs_as_a_user_who_owns_the_volume_and_stops_by_sigterm():
    [user], [volume], [port] = dockerfile("USER"), dockerfile("VOLUME"), dockerfile("EXPOSE")
    environment = dockerfile_environment()
    assert user != "root"
    [made] = [run for run in dockerfile("RUN") if "useradd" in run]
    assert re.search(rf"install --directory --owner={user} --group={user} --mode=0700 {re.escape(volume)}$", made)
    assert environment["ONLINEGUARD_STATE"] == volume
    assert environment["ONLINEGUARD_PORT"] == port
    assert dockerfile("STOPSIGNAL") == ["SIGTERM"]
    assert "/opt/onlineguard/bin" in environment["PATH"].split(":")


def test_the_image_is_built_from_files_that_are_there_and_not_ignored():
    patterns = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    let_in = {line.removeprefix("!") for line in patterns}
    copies = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
    sources = {source for copy in copies for source in copy.split()[:-1]}
    assert sources == let_in
    assert all((ROOT / source).exists() for source in sources)
    assert {"constraints.txt", "pyproject.toml", "onlineguard", "service"} <= sources
    assert 'pip install ".[$EXTRAS]"' in DOCKERFILE
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = re.findall(r"EXTRAS=(\S+)", DOCKERFILE)
    assert named[-1] == "otel,serve"
    assert all(set(each.split(",")) <= set(extras) for each in named)
    assert "PIP_CONSTRAINT=/source/constraints.txt" in DOCKERFILE


def test_an_image_and_a_unit_keep_what_was_compiled_where_they_may_write():
    environment = dockerfile_environment()
    assert environment[VARIABLE].startswith(environment["ONLINEGUARD_STATE"] + "/")
    (cache,) = unit("CacheDirectory")
    assert unit_environment()[VARIABLE] == f"/var/cache/{cache}"
    assert unit("CacheDirectoryMode") == ["0700"]  # programs that others could write are not used


def healthy(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    [check] = dockerfile("HEALTHCHECK")
    command = msgspec.json.decode(check.partition("CMD")[2])
    assert command == ["python", "/opt/onlineguard/healthy.py"]
    assert "COPY --from=build /source/service/deploy/healthy.py /opt/onlineguard/healthy.py" in DOCKERFILE
    return subprocess.run(
        [sys.executable, DEPLOY / "healthy.py"], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True])
def test_the_healthcheck_is_healthy_when_readyz_answers_200_and_says_why_not_otherwise(tls, tmp_path):
    asked: list[tuple[str, int]] = []
    answers = [200, 503]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            code = answers[len(asked)]
            asked.append((self.path, code))
            body = b'{"ready":false,"reasons":["replaying"]}'
            self.send_response(code)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    environment = {"ONLINEGUARD_PORT": str(server.server_address[1]), "http_proxy": "http://127.0.0.1:9"}
    if tls:
        if shutil.which("openssl") is None:
            (pytest.fail if CI else pytest.skip)("no openssl to make a certificate with; install it to run this test")
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=elsewhere"
        subprocess.run([*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        environment["ONLINEGUARD_TLS_CERT"] = str(cert)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert healthy(environment).returncode == 0
        ill = healthy(environment)
    finally:
        server.shutdown()
        server.server_close()
    assert (ill.returncode, "replaying" in ill.stderr) == (1, True)
    assert asked == [("/readyz", 200), ("/readyz", 503)]
    gone = healthy(environment)
    assert (gone.returncode, "readyz" in gone.stderr, "Traceback" in gone.stderr) == (1, True, False)


def test_compose_names_volumes_files_and_services_that_there_are():
    services, volumes = COMPOSE["services"], set(COMPOSE["volumes"])
    assert set(services) == {"onlineguard", "worker", "shards", "redis", "prometheus", "grafana"}
    used: set[str] = set()
    for service in services.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (ROOT / "service" / source).is_file(), source
            else:
                used.add(source)
        assert set(service.get("depends_on", [])) <= set(services)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "published to this machine alone, for there are no keys"
    assert used == volumes
    [state] = services["onlineguard"]["volumes"]
    assert state.split(":")[1] == dockerfile("VOLUME")[0]
    assert services["onlineguard"]["ports"] == [f"127.0.0.1:8080:{dockerfile('EXPOSE')[0]}"]
    assert services["worker"]["image"] == services["onlineguard"]["image"]


def test_composes_service_starts_with_its_settings_and_is_given_longer_to_stop_than_its_grace():
    service = COMPOSE["services"]["onlineguard"]
    environment = dockerfile_environment() | service["environment"]
    told = shown(["serve"], environment)
    assert 'redis = "redis://redis:6379/0"' in told
    for each in ("onlineguard", "worker"):
        assert int(COMPOSE["services"][each]["stop_grace_period"].removesuffix("s")) >= 30 + float(
            service["environment"]["ONLINEGUARD_GRACE"]
        )
    [host] = {urlsplit(service["environment"]["ONLINEGUARD_REDIS"]).hostname}
    assert COMPOSE["services"][host]["image"].startswith("redis:")
    redis = COMPOSE["services"]["redis"]["command"]
    assert redis[redis.index("--appendonly") + 1] == "yes"


def test_composes_worker_is_called_with_flags_that_it_takes():
    worker = COMPOSE["services"]["worker"]
    name, *flags = worker["command"]
    known = {
        "--" + ("out" if field.name == "output" else field.name.replace("_", "-")) for field in fields(WorkerSettings)
    }
    assert name == "worker"
    assert set(flags[::2]) <= known
    WorkerSettings(redis=flags[flags.index("--redis") + 1], url=worker["environment"]["ONLINEGUARD_URL"])
    assert set(worker["environment"]) <= CLIENTS


def test_composes_shards_read_a_log_in_its_redis_and_are_asked_by_the_healthcheck():
    service = COMPOSE["services"]["shards"]
    given = told(service["command"], service["environment"])
    assert COMPOSE["services"][str(urlsplit(parsed(given["source"]).where).hostname)]["image"].startswith("redis:")
    [volume] = [mount.split(":")[1] for mount in service["volumes"]]
    assert volume == dockerfile("VOLUME")[0]
    assert given["snapshots"].startswith(f"{volume}/")
    assert (given["metrics_host"], str(given["metrics_port"])) == (
        "0.0.0.0",
        service["environment"]["ONLINEGUARD_PORT"],
    )
    assert service["image"] == COMPOSE["services"]["onlineguard"]["image"]


def test_prometheus_scrapes_the_service_and_reads_the_alerts_where_compose_puts_them():
    prometheus = COMPOSE["services"]["prometheus"]
    mounted = dict(mount.split(":")[:2] for mount in prometheus["volumes"])
    assert mounted["./deploy/prometheus.yml"] == "/etc/prometheus/prometheus.yml"
    assert "--config.file=/etc/prometheus/prometheus.yml" in prometheus["command"]
    assert [mounted["./deploy/alerts.yml"]] == [f"/etc/prometheus/{name}" for name in SCRAPE["rule_files"]]
    grafana, files = COMPOSE["services"]["grafana"], COMPOSE["configs"]
    [source] = yaml.safe_load(files["datasource"]["content"])["datasources"]
    assert urlsplit(source["url"]).hostname in COMPOSE["services"]
    [provider] = yaml.safe_load(files["dashboards"]["content"])["providers"]
    mounted = dict(mount.split(":")[:2] for mount in grafana["volumes"])
    assert Path(mounted["./deploy/dashboard.json"]).parent == Path(provider["options"]["path"])
    assert {each["source"] for each in grafana["configs"]} == set(files)
    job, of_shards = SCRAPE["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    assert target == f"onlineguard:{dockerfile('EXPOSE')[0]}"
    assert "onlineguard" in COMPOSE["services"]
    assert job.get("metrics_path", "/metrics") in API["paths"]
    assert of_shards["job_name"] == SHARDS
    [found] = of_shards["dns_sd_configs"]
    assert found["names"] == ["shards"]
    assert str(found["port"]) == COMPOSE["services"]["shards"]["environment"]["ONLINEGUARD_PORT"]


@pytest.mark.parametrize("rule", RULES, ids=[rule.get("alert") or rule["record"] for rule in RULES])
def test_a_rule_goes_by_metrics_that_the_service_has(rule):
    check(rule["expr"], metrics())
    for routes in re.findall(r'route=~"([^"]*)"', rule["expr"]):
        assert any(re.fullmatch(routes, path) for path in API["paths"])
    assert all(job == SCRAPE["scrape_configs"][0]["job_name"] for job in re.findall(r'job="([^"]*)"', rule["expr"]))
    for jobs in re.findall(r'job=~"([^"]*)"', rule["expr"]):
        assert any(re.fullmatch(jobs, job["job_name"]) for job in SCRAPE["scrape_configs"])
    if "alert" in rule:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert {"summary", "description"} <= set(rule["annotations"])
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))


def test_the_unit_starts_serve_in_its_own_folder_with_settings_that_it_takes():
    [start] = unit("ExecStart")
    program, *arguments = shlex.split(start)
    assert Path(program).name == "onlineguard"
    told = shown(arguments, unit_environment() | env_file(commented=True))
    assert f'state = "/var/lib/{unit("StateDirectory")[0]}"' in told
    [file] = unit("EnvironmentFile")
    assert Path(file.removeprefix("-")).name == "onlineguard.env"


def test_the_unit_is_hardened_and_lets_the_service_stop_by_itself():
    hardened = {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "CapabilityBoundingSet": "",
        "Restart": "on-failure",
        "KillSignal": "SIGTERM",
    }
    assert {key: unit(key) for key in hardened} == {key: [value] for key, value in hardened.items()}
    grace = float(env_file(commented=False)["ONLINEGUARD_GRACE"])
    assert float(unit("TimeoutStopSec")[0]) >= grace + 30


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    there = tmp_path / "onlineguard.service"  # with a program that is there
    there.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT, flags=re.MULTILINE), "utf-8")
    done = subprocess.run(["systemd-analyze", "verify", there], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "onlineguard.service" in line]
    assert complaints == []


@pytest.mark.parametrize("name", [*FILES, "docs/service.md"])
def test_every_variable_in_a_file_is_a_setting(name):
    found = set(re.findall(r"ONLINEGUARD_[A-Z_]*[A-Z]", (ROOT / name).read_text("utf-8")))
    assert found <= SETTINGS | CLIENTS | PROCESSES


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_the_host_of_a_registry_of_packages(name):
    text = (ROOT / name).read_text("utf-8").lower()
    assert not re.search(r"index[_-]url[= ]+\S*//|pypi\.|pythonhosted", text)


# The page of documentation


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_table_of_settings_in_the_docs_is_that_of_the_service():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", section("Settings"), re.MULTILINE)
    assert rows == [
        (
            name,
            f"`{told}`" if (told := config.default(name)) is not None else "none",
            config.about(name).replace("|", r"\|"),
        )
        for name in config.FIELDS
    ]


def commands(text: str) -> list[list[str]]:
    """The curl commands of the fenced blocks, as words; a command goes on in lines that are indented."""
    blocks = re.findall(r"^```(?:console|bash)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    found = [each for block in blocks for each in re.findall(r"^(?:\$ )?(curl .*(?:\n[ ].*)*)", block, re.MULTILINE)]
    return [shlex.split(each.replace("\\\n", " ")) for each in found]


CURLS = [
    pytest.param(words, id=f"{where}-{i}")
    for where, text in (("docs", PAGE), ("readme", README))
    for i, words in enumerate(commands(text))
]
BODIES = {"/v1/update": Event, "/v1/score": Event, "/v1/clicks": Click, "/v1/labels": Label, "/v1/explain": Event}


@pytest.mark.parametrize("words", CURLS)
def test_a_curl_line_asks_for_what_the_service_has(words):
    [url] = [word for word in words if word.startswith(("http://", "https://"))]
    path, query = urlsplit(url).path, parse_qs(urlsplit(url).query, strict_parsing=bool(urlsplit(url).query))
    if path.startswith("/v2"):  # as another specification says, not this API's document
        routes = application(Double(), config.Settings()).routes
        assert any(
            each.matches({"type": "http", "path": path, "method": "GET"})[0] is not Match.NONE for each in routes
        )
        return
    operations = API["paths"].get(path) or next(
        operations
        for template, operations in API["paths"].items()
        if "{" in template and re.fullmatch(re.sub(r"\{\w+\}", ".+", template), path)
    )
    data = [words[i + 1] for i, word in enumerate(words) if word in ("-d", "--data-binary")]
    method = next((words[i + 1] for i, word in enumerate(words) if word == "-X"), "POST" if data else "GET").lower()
    assert method in operations
    assert set(query) <= {each["name"] for each in operations[method].get("parameters", []) if each["in"] == "query"}
    headers = dict(re.split(r":\s*", words[i + 1], maxsplit=1) for i, word in enumerate(words) if word == "-H")
    assert {name.lower() for name in headers} <= {"content-type", "authorization"}
    if data and not data[0].startswith("@"):
        assert headers["content-type"] == "application/json"
        value = msgspec.json.decode(data[0])
        if (kind := BODIES.get(path)) is not None:
            converted = msgspec.convert(value, list[kind] if isinstance(value, list) else kind)
            for one, given in zip(
                *((each if isinstance(value, list) else [each]) for each in (converted, value)), strict=True
            ):
                assert set(given) <= set(one.__struct_fields__)
    elif data:
        assert headers["content-type"] == "application/x-ndjson"


def test_there_are_curl_lines_for_every_route_that_programs_use():
    urls = [urlsplit(word).path for words in commands(PAGE) for word in words if word.startswith("http")]
    for template in API["paths"]:
        pattern = re.sub(r"\{\w+\}", "(?!live).+", template)
        assert any(re.fullmatch(pattern, path) for path in urls), template
    assert len(commands(README)) >= 3


def test_the_sizes_of_slices_in_the_docs_are_those_of_the_models():
    for detector in ("point", "marginal", "series"):
        kB = [row_bytes(named_model(detector, None, None), n) / 1_000 for n in (2, 20, 50)]
        small, medium, large = (f"{each:.2g}" if each < 10 else f"{each:.0f}" for each in kB)
        assert f"{detector} {small}, {medium} and {large} kB" in PAGE


def test_the_flags_in_the_docs_are_those_of_the_service():
    more = {"show_config", "new_key", "scope", "config", "folder"}  # the last is the benchmark's
    flags = {flag.replace("-", "_") for flag in re.findall(r"(?<=`)--([a-z-]+)(?=[ `])", PAGE)}
    assert flags
    worker = {"out" if field.name == "output" else field.name for field in fields(WorkerSettings)} | {"from"}
    assert flags <= set(config.FIELDS) | more | worker


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(onlineguard_\w+|process_\w+)`", PAGE))))
def test_a_metric_in_the_docs_is_one_of_the_service(name):
    assert name in metrics()


def test_a_backup_of_the_models_and_the_newest_snapshot_alone_is_restored_as_the_docs_say(tmp_path):
    kept, restored = tmp_path / "kept", tmp_path / "restored" / "journal"

    async def before() -> int:
        journal = FolderJournal(kept, "group")
        for entry in (b"1", b"2", b"3"):
            await journal.commit(entry, lambda sequence: None)
        sequence = await journal.begin_snapshot({"state": b"123"})
        await journal.commit(b"4", lambda sequence: None)
        await journal.close()
        return sequence

    n = asyncio.run(before())
    [name] = re.findall(r"journal/(snapshot-.+)\n", section("Backup and restore"))
    name = name.replace("$(printf %020d $n)", f"{n:020d}")
    restored.mkdir(parents=True)
    shutil.copy(kept / name, restored / name)

    async def after() -> int:
        journal = FolderJournal(restored, "group")
        found = journal.newest_snapshot()
        assert found is not None
        assert (found[0], dict(found[1])) == (3, {"state": b"123"})
        assert list(journal.replay(found[0])) == []
        committed = await journal.commit(b"4", lambda sequence: sequence)
        await journal.close()
        return committed

    assert asyncio.run(after()) == n + 1


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE))))
def test_the_docs_links_lead_somewhere(link):
    assert (ROOT / "docs" / link).exists()


def test_the_python_in_the_docs_is_of_modules_and_methods_that_there_are():
    from onlineguard import client

    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        compile(block, "docs/service.md", "exec")
        for method in re.findall(r"guard\.(\w+)\(", block):
            assert callable(getattr(client.Client, method))
    assert importlib.util.find_spec("onlineguard.client") is not None
