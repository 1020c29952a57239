"""Texts of clicks as numbers, so that weeks of clicks fit into memory.

A week of ten million clicks has some 3 GB of texts. Nothing that is learned of a log reads them: it asks which clicks
have the same visitor, session, ad or address. So

- ids, of which there are about as many as clicks, become 64 bits of their hash. Two of twenty million ids share one
  with a probability of one in 100,000, and are then taken for one;
- all other texts become `Categorical`: a number of 32 bits a click, and each distinct text once.

The hash is that of this process, so a coded frame is not kept. `check_clicks` takes it for what it is.
"""

from collections.abc import Sequence

import polars as pl

from onlineguard.slidr.clicks.clicks import IDS, SCHEMA


def coded(frame: pl.DataFrame, told: Sequence[str] = ()) -> pl.DataFrame:
    """The clicks of a frame with the columns of `SCHEMA`, with numbers for texts; a null stays one.

    told: ids whose text is asked for, such as those that name a slice: they become `Categorical` too.

    >>> ids = pl.DataFrame({"click_id": ["a", "b"], "user_id": ["u", "u"]}).pipe(coded)
    >>> ids["click_id"].n_unique(), ids["user_id"].n_unique()
    (2, 1)
    """
    return frame.with_columns(
        pl.when(pl.col(name).is_not_null()).then(pl.col(name).hash())
        if name in IDS and name not in told
        else pl.col(name).cast(pl.Categorical)
        for name in frame.columns
        if SCHEMA[name] == pl.String()
    )
