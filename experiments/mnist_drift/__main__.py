"""Anomalies among handwritten digits whose normal one switches, by every kind of model and rate.

One digit is normal, shown turned at random; a share of the images are other digits, the anomalies; at times unknown to
the models the normal digit switches. Every image is scored before it is learned, in two readings: (a) its label is
revealed after scoring, (b) no label is ever told. Measured are AUROC and average precision, once settled and in the 300
images after a switch, false alarms and misses under the online threshold, and all of that over anomaly rates, angles
and corrupted pixels and labels. A full run took 21 minutes on two busy cores.
"""

from experiments.common import Options, Outcome, main, style
from experiments.mnist_drift import figures
from experiments.mnist_drift.run import collect, results, sweep_table, table


def run(options: Options) -> Outcome:
    """The whole experiment."""
    style()
    found = collect(options)
    drawn = {
        "stream": figures.draw_stream(found),
        "running": figures.draw_running(found),
        "recovery": figures.draw_recovery(found),
        "threshold": figures.draw_threshold(found),
        "sweep_unlabelled": figures.draw_sweep(found, False, options.quick),
        "sweep_labelled": figures.draw_sweep(found, True, options.quick),
    }
    return Outcome(results(found, options), drawn, f"{table(found)}\n\n{sweep_table(found, options.quick)}")


if __name__ == "__main__":
    main(run, __file__, seeds=10, takes_data=True)
