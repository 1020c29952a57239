"""The report of a run: what is kept of it in bounded memory while it runs, and one self-contained HTML file of that."""

from onlineguard.report.alarms import Alarm, merge_alarms
from onlineguard.report.page import write_report
from onlineguard.report.recorder import SeriesRecorder
from onlineguard.report.track import SliceReport

__all__ = ["Alarm", "SeriesRecorder", "SliceReport", "merge_alarms", "write_report"]
