"""A model a day with Airflow: a task that fails for good when the model is rejected, and is tried again else.

Beside it stands one for the lookups of the day, which the service takes up by itself.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    dag_id="onlineguard_retrain",
    schedule="0 1 * * *",
    start_date=datetime(2026, 3, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(hours=1)},
) as dag:
    BashOperator(
        task_id="lookups",
        bash_command=(
            "onlineguard slidr lookups build --history /var/lib/onlineguard/history --out /var/lib/onlineguard/lookups "
            "--hosting /etc/onlineguard/hosting.csv --day {{ macros.ds_add(ds, -1) }} --json"
        ),
    )
    # At 01:00 the day before is over. A day that is done is answered from the registry, so retries cost nothing.
    BashOperator(
        task_id="retrain",
        bash_command=(
            "onlineguard slidr retrain --history /var/lib/onlineguard/history --registry s3://example-models/clicks "
            "--day {{ macros.ds_add(ds, -1) }} --json"
        ),
        skip_on_exit_code=3,  # rejected: nothing went live, and trying again changes nothing
    )
