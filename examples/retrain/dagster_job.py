"""A model a day with Dagster: an asset with a partition a day, whose metadata is the outcome."""

import json
import subprocess

import dagster as dg

daily = dg.DailyPartitionsDefinition(start_date="2026-03-01")
REJECTED = 3


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


job = dg.define_asset_job("retrain", selection=[model], partitions_def=daily)
definitions = dg.Definitions(
    assets=[model], jobs=[job], schedules=[dg.build_schedule_from_partitioned_job(job, hour_of_day=1)]
)
