"""The report of a run: a recorder that needs bounded memory, and one self-contained HTML file."""

from onlineguard.report.alarms import Alarm, merge_alarms
from onlineguard.report.page import write_report
from onlineguard.report.recorder import SeriesRecorder
from onlineguard.report.track import SliceReport

__all__ = ["Alarm", "SeriesRecorder", "SliceReport", "merge_alarms", "write_report"]
