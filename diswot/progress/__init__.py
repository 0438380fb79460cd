"""Progress reports: how far long work is, and where that is shown.

`reporter` is the contract of what shows it, `pace` says how fast and how long, `lines` prints lines into logs and pipes, `terminal` (which
imports rich) has the live view of a terminal. What happens once (a teacher is trained first, a checkpoint is damaged) is logged through
`logging.getLogger("diswot")` instead.
"""

from diswot.progress.lines import PlainLines
from diswot.progress.pace import Clock, Forecast, TimeLeft, duration, sparkline
from diswot.progress.reporter import Detail, NullReporter, Reporter

__all__ = ["Clock", "Detail", "Forecast", "NullReporter", "PlainLines", "Reporter", "TimeLeft", "duration", "sparkline"]
