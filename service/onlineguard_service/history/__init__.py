"""The history, written beside the journal: what was judged and labelled, in Parquet."""
