"""`onlineguard slidr`: the commands about ad clicks. Each parses what was asked, calls `workflow`, and prints."""

import typer

from onlineguard.cli import calibrate, evaluate, features, history, lookups, replay, rfm, score, train

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(history.app, name="history")
app.add_typer(lookups.app, name="lookups")
app.command("replay", epilog=replay.EPILOG)(replay.replay)
app.command("features", epilog=features.EPILOG)(features.features)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("calibrate", epilog=calibrate.EPILOG)(calibrate.calibrate)
app.command("evaluate", epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command("score", epilog=score.EPILOG)(score.score)
app.command("rfm", epilog=rfm.EPILOG)(rfm.rfm)


@app.callback()
def slidr() -> None:
    """Robots among ad clicks: train a model, choose thresholds, measure them, score clicks.

    A click that led to a purchase, or of a valuable account, was a person's. Nothing is known of all others.

    A model learns from the known people. Every slice has a threshold, and all thresholds together keep the share of \
purchases that are called robotic within a budget.
    """
