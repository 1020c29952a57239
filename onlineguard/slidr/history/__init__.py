"""What a service judged and what became known of it later, as a folder of Parquet files that any engine reads."""
