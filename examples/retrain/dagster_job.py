"""A model a day with Dagster, and the lookups of the day: assets with a partition a day and the outcome as metadata."""

import json
import subprocess

import dagster as dg

daily = dg.DailyPartitionsDefinition(start_date="2026-03-01")
REJECTED = 3


@dg.asset(partitions_def=daily, retry_policy=dg.RetryPolicy(max_retries=3, delay=3_600))
def lookups(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """What was known of accounts and networks when a day ended; the service takes it up by itself."""
    command = ["onlineguard", "slidr", "lookups", "build", "--history", "/var/lib/onlineguard/history", "--json"]
    command += ["--out", "/var/lib/onlineguard/lookups", "--hosting", "/etc/onlineguard/hosting.csv"]
    ran = subprocess.run([*command, "--day", context.partition_key], stdout=subprocess.PIPE, text=True, check=True)
    return dg.MaterializeResult(metadata={"version": json.loads(ran.stdout)["version"]})


@dg.asset(partitions_def=daily, retry_policy=dg.RetryPolicy(max_retries=3, delay=3_600))
def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """The model of a day, promoted or rejected."""
    command = ["onlineguard", "slidr", "retrain", "--history", "/var/lib/onlineguard/history", "--json"]
    command += ["--registry", "s3://example-models/clicks", "--day", context.partition_key]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode not in (0, REJECTED):
        raise dg.Failure(f"retraining ended with code {ran.returncode}")
    run = json.loads(ran.stdout)
    if ran.returncode == REJECTED:
        raise dg.Failure("rejected: " + "; ".join(run["reasons"]), allow_retries=False)
    return dg.MaterializeResult(metadata={name: run[name] for name in ("outcome", "version", "clicks", "seconds")})


job = dg.define_asset_job("retrain", selection=[lookups, model], partitions_def=daily)
definitions = dg.Definitions(
    assets=[lookups, model], jobs=[job], schedules=[dg.build_schedule_from_partitioned_job(job, hour_of_day=1)]
)
