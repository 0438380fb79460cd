"""The pages of runs: `report.html`, made of what lies in a run's folder, at its end or while it is under way."""

from diswot.pages.write import write_page

__all__ = ["write_page"]
